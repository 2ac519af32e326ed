"""The commands of ``python -m posfeat_hloc``; each module is imported only when one of its commands runs."""

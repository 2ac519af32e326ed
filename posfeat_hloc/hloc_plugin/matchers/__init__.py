"""Found by hloc as `hloc.matchers.*`: one module with one class for each module of `posfeat_hloc.matchers`."""

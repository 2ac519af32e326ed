"""Found by hloc as `hloc.extractors.*`: one module with one class for each module of `posfeat_hloc.extractors`."""

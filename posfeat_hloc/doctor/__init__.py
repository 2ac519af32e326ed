"""What ``python -m posfeat_hloc doctor`` looks at: versions, hardware, weights, files, a self-test."""

"""What ``posfeat-hloc doctor`` looks at: versions, hardware, weights, files, a self-test."""

"""What lies on disk for Triton: a model repository, its configs and its plans."""

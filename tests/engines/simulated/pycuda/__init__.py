"""A PyCUDA whose device memory is the host's: see `driver`."""

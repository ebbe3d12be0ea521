"""A client of the served ensembles over gRPC or HTTP."""

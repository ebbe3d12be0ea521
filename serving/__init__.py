"""Outfits on request: in this process, or from a Triton model repository, its server and its client."""

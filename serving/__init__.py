"""Assemble a Triton model repository, start the server, and ask it for outfits."""

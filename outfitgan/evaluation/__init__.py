"""Metrics of a run on held-out outfits, with their intervals and pictures."""

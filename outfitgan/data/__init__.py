"""Outfits from every source, as one record."""

"""Garments drawn and dressed by rule: sketches, silhouettes, fabrics, and the style that an outfit shares."""

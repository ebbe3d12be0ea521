"""The networks, one file each, over `outfitgan.ops`."""

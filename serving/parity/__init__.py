"""The parity of whole outfits, hop by hop from torch to the served ensemble."""

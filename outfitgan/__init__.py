"""OutfitGAN (arXiv 2502.06827): its records and contracts, the model, its data, training and evaluation."""

__version__ = "0.1.0"

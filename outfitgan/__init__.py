"""OutfitGAN (arXiv 2502.06827): the model, its data and its training."""

__version__ = "0.1.0"

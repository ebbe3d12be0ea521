"""Visual features of an item for the CCM: trained with it, or of a published network that stays frozen."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from outfitgan.config import CollocationConfig
from outfitgan.networks.efficientnet import EfficientNetLite0, load_efficientnet_lite0
from outfitgan.networks.initialisation import he
from outfitgan.networks.vgg import Vgg16, load_vgg16


class TrainedFeatures(nn.Sequential):
    """Four convolutions, three of them halving the grid, then the mean over positions."""

    def __init__(
        self,
        config: CollocationConfig,  # width and embedding
    ) -> None:
        widths = (3, config.width, 2 * config.width, 4 * config.width, config.embedding)
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(pairwise(widths)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if depth else 1, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        super().__init__(*layers)
        self.apply(he)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (N, E) of images (N, 3, s, s) in [-1, 1]."""
        centred = images - 1  # white ground is 0, as padding is
        features: Tensor = nn.Sequential.forward(self, centred)  # type: ignore[no-untyped-call]
        return features.mean(dim=(2, 3))  # of (N, E, s / 8, s / 8)


class FrozenFeatures(nn.Module):
    """A published network that never trains, and a trained projection of what it sees."""

    def __init__(
        self,
        network: EfficientNetLite0 | Vgg16,  # published
        channels: int,  # that it embeds in
        config: CollocationConfig,  # whose embedding it is projected to
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(requires_grad=False)
        self.projection = nn.Linear(channels, config.embedding)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (N, E) of images (N, 3, s, s) in [-1, 1]."""
        embeddings: Tensor = self.projection(self.network.embed(images))
        return embeddings


VisualFeatures = TrainedFeatures | FrozenFeatures


def features_of(config: CollocationConfig) -> VisualFeatures:
    """Return the features that a config names; `load_published` or a checkpoint brings a frozen network its weights."""
    match config.features:
        case "trained":
            return TrainedFeatures(config)
        case "efficientnet-lite0":
            return FrozenFeatures(EfficientNetLite0(), EfficientNetLite0.channels, config)
        case "vgg16":
            return FrozenFeatures(Vgg16(), Vgg16.channels, config)


def load_published(features: VisualFeatures, vgg_weights: str) -> None:
    """Put a frozen network's published weights in; raise ConfigError where they are not at hand."""
    if isinstance(features, FrozenFeatures):
        published: nn.Module = (
            load_vgg16(vgg_weights) if isinstance(features.network, Vgg16) else load_efficientnet_lite0()
        )
        features.network.load_state_dict(published.state_dict())


def in_sequence(images: Tensor, places: tuple[int, ...]) -> Tensor:
    """Return images (B, 4, 3, S, S), in collocation order, in the order of `places`."""
    return torch.stack([images[:, place] for place in places], dim=1)

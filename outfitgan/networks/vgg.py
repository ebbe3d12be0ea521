"""VGG-16's convolutions (Simonyan and Zisserman 2014), named so that torchvision's published weights load."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from outfitgan.errors import ConfigError

TORCHVISION_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
_LAYERS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
_TAPS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Vgg16(nn.Module):
    """Features after the last ReLU of each of the five blocks."""

    channels = 512
    """Of what `embed` returns."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for layer in _LAYERS:
            if isinstance(layer, int):
                layers += [nn.Conv2d(inputs, layer, 3, padding=1), nn.ReLU()]
                inputs = layer
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return five feature maps of images (B, 3, S, S) in [-1, 1]; S is at least 32."""
        x = ((images + 1) / 2 - self.mean) / self.std
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                taps.append(x)
        return taps

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the last features over positions (B, 512) of images (B, 3, S, S) in [-1, 1]."""
        last: Tensor = self(images)[-1]  # (B, 512, S / 16, S / 16)
        return last.mean(dim=(2, 3))


def load_vgg16(weights: str) -> Vgg16:
    """Return a VGG-16 with `weights`: a .safetensors or .pth file, or "torchvision" for its published URL.

    Raises:
        ConfigError: when there are no weights there or they are not VGG-16's.

    """
    network = Vgg16()
    try:
        if weights == "torchvision":
            state = torch.hub.load_state_dict_from_url(TORCHVISION_URL, check_hash=True, weights_only=True)
        elif Path(weights).suffix == ".safetensors":
            state = load_file(weights)
        else:
            state = torch.load(weights, weights_only=True)
        network.load_state_dict({key: value for key, value in state.items() if key.startswith("features.")})
    except Exception as error:  # torch.load raises whatever a damaged file makes it hit
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"VGG-16 weights '{weights}' cannot be loaded ({reason}); give a file of torchvision's vgg16 in "
            "losses.vgg_weights, or set losses.perceptual to 0."
        ) from error
    return network.eval()

"""Which network's features FID and KID compare; a result is only comparable with one of the same network."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.errors import ConfigError
from outfitgan.evaluation.metrics.arrays import Features, check_pictures, slices
from outfitgan.files import sha256_of
from outfitgan.networks.efficientnet import EfficientNetLite0, load_efficientnet_lite0

_CHUNK = 16  # images at a time
_TRAINED_AT = 224  # pixels a side
_INCEPTION_SHA256_START = "6726825d"
_INCEPTION_FILE = f"weights-inception-2015-12-05-{_INCEPTION_SHA256_START}.pth"  # as torch-fidelity publishes it


class FeatureNetwork(Protocol):
    """One row of features an image; `name` stands in the name of whatever is made of them."""

    @property
    def name(self) -> str:
        """As in "FID (EfficientNet-Lite0)"."""
        ...

    def embed(self, images: Tensor) -> Features:
        """Return features (N, d) of images (N, 3, S, S) in [-1, 1]."""
        ...


class EfficientNetFeatures:
    """EfficientNet-Lite0's penultimate features (N, 1280). Ours: the published FID is of Inception-v3."""

    name = "EfficientNet-Lite0"

    def __init__(
        self,
        network: EfficientNetLite0,  # with its published weights
    ) -> None:
        self.network = network

    def embed(self, images: Tensor) -> Features:
        """Return features (N, 1280) of images (N, 3, S, S) in [-1, 1], resized to 224: what it was trained at."""
        check_pictures(images)
        device = next(self.network.parameters()).device
        rows = []
        with torch.inference_mode():
            for part in slices(len(images), _CHUNK):
                pixels = images[part].to(device, torch.float32)  # (n, 3, S, S)
                resized = F.interpolate(pixels, size=(_TRAINED_AT, _TRAINED_AT), mode="bilinear", antialias=True)
                fast = resized.contiguous(memory_format=torch.channels_last)  # by half on a CPU
                rows.append(self.network.embed(fast).cpu().numpy())
        return np.concatenate(rows)  # (N, 1280)


class InceptionFeatures:
    """Inception-v3's last pooled features (N, 2048), as the published FID and KID take them."""

    name = "Inception-v3"

    def __init__(
        self,
        extractor: nn.Module,  # torch-fidelity's, with its published weights
    ) -> None:
        self._extractor = extractor  # of torch-fidelity: levels (N, 3, S, S), uint8, to a tuple of (N, 2048)

    def embed(self, images: Tensor) -> Features:
        """Return features (N, 2048) of images (N, 3, S, S) in [-1, 1]; the extractor resizes them to 299."""
        check_pictures(images)
        device = next(self._extractor.parameters()).device
        levels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()  # (N, 3, S, S)
        with torch.inference_mode():
            rows = [self._extractor(levels[part].to(device))[0].cpu().numpy() for part in slices(len(levels), _CHUNK)]
        return np.concatenate(rows)  # (N, 2048)


def feature_network(name: str, weights: str = "", device: str = "cpu") -> FeatureNetwork:
    """Return the network called "efficientnet-lite0" or "inception"; `weights` is the file that the latter needs.

    Raises ConfigError for another name, or in one sentence for what is missing.
    """
    if name == "efficientnet-lite0":
        return EfficientNetFeatures(load_efficientnet_lite0().to(device))
    if name == "inception":
        return InceptionFeatures(_inception(weights).to(device))
    raise ConfigError(f"There is no feature network '{name}'; choose from efficientnet-lite0, inception.")


def _inception(weights: str) -> nn.Module:
    try:
        module = import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Inception-v3's features need torch-fidelity and its file {_INCEPTION_FILE}: pip install torch-fidelity."
        ) from error
    if not Path(weights).is_file() or not sha256_of(Path(weights)).startswith(_INCEPTION_SHA256_START):
        raise ConfigError(f"'{weights}' is not Inception-v3's weights: name torch-fidelity's file {_INCEPTION_FILE}.")
    extractor: nn.Module = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], weights)
    return extractor.eval()

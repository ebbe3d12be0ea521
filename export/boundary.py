"""The boundary of each graph: uint8 NHWC outside, the networks' [-1, 1] NCHW inside.

Bytes are cast before and after everything else, because TensorRT takes uint8 at the edge of a network only.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from outfitgan.masks import THRESHOLD
from outfitgan.networks.alignment import cells


class Aligner(Protocol):
    """What `AlignmentGraph` needs of a SAM: the warp, the best source position and its weight."""

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return warped (B, Cv, g, g), index (B, g, g) and weight (B, g, g)."""


def image_from_bytes(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, 3, S, S) in [-1, 1] from uint8 (B, S, S, 3)."""
    return (image.float() / 127.5 - 1).permute(0, 3, 1, 2).to(dtype)  # (B, 3, S, S)


def mask_from_bytes(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, 1, S, S) of 0 and 1 from uint8 (B, S, S, 1), thresholded at THRESHOLD."""
    return (mask.float() >= THRESHOLD).permute(0, 3, 1, 2).to(dtype)  # (B, 1, S, S)


def bytes_from_image(image: Tensor) -> Tensor:
    """Return uint8 (B, S, S, 3) from (B, 3, S, S) in [-1, 1]; what lies outside is clamped."""
    levels = (image.float() + 1) * 127.5  # (B, 3, S, S)
    return levels.permute(0, 2, 3, 1).clamp(0, 255).round().to(torch.uint8)  # (B, S, S, 3)


def bytes_from_logits(logits: Tensor) -> Tensor:
    """Return uint8 (B, S, S, 1) from a silhouette's logits (B, 1, S, S): 255 times their sigmoid."""
    levels = torch.sigmoid(logits.float()) * 255  # (B, 1, S, S)
    return levels.permute(0, 2, 3, 1).round().to(torch.uint8)  # (B, S, S, 1)


def _dtype_of(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


class GeneratorGraph(nn.Module):
    """SOURCE and MASK to IMAGE."""

    def __init__(
        self,
        generator: nn.Module,  # maps source and mask to an image
    ) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """Map uint8 (B, S, S, 3) and (B, S, S, 1) to uint8 (B, S, S, 3)."""
        dtype = _dtype_of(self.generator)
        image: Tensor = self.generator(image_from_bytes(source, dtype), mask_from_bytes(mask, dtype))
        return bytes_from_image(image)


class OutfitGraph(nn.Module):
    """SOURCE and a mask a target to an image a target: one generator for all kinds."""

    def __init__(
        self,
        generator: nn.Module,  # maps source and masks to every target's image
    ) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor, first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 (B, S, S, 3) and three (B, S, S, 1), in the order of the targets, to three uint8 (B, S, S, 3)."""
        dtype = _dtype_of(self.generator)
        masks = torch.stack([mask_from_bytes(mask, dtype) for mask in (first, second, third)], dim=1)  # (B, 3, 1, S, S)
        images: Tensor = self.generator(image_from_bytes(source, dtype), masks)  # (B, 3, 3, S, S)
        return tuple(bytes_from_image(image) for image in images.unbind(dim=1))


class MaskGraph(nn.Module):
    """SOURCE to MASK."""

    def __init__(
        self,
        generator: nn.Module,  # maps source to a silhouette's logits
    ) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, source: Tensor) -> Tensor:
        """Map uint8 (B, S, S, 3) to a soft silhouette, uint8 (B, S, S, 1)."""
        return bytes_from_logits(self.generator(image_from_bytes(source, _dtype_of(self.generator))))


class AlignmentGraph(nn.Module):
    """SOURCE and MASK to WARPED, MATCH and WEIGHT."""

    def __init__(
        self,
        alignment: nn.Module,  # an `Aligner`
    ) -> None:
        super().__init__()
        self.alignment = alignment

    def forward(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map uint8 images to float32 (B, Cv, g, g), int32 (B, g, g, 2) of (row, column), float32 (B, g, g)."""
        dtype = _dtype_of(self.alignment)
        aligner = cast(Aligner, self.alignment)
        warped, index, weight = aligner.match(image_from_bytes(source, dtype), mask_from_bytes(mask, dtype))
        columns = warped.shape[-1]  # source and mask share one grid
        return warped.float(), cells(index, columns), weight.float()


class CollocationGraph(nn.Module):
    """Four images in collocation order to COMPATIBILITY."""

    def __init__(
        self,
        collocation: nn.Module,  # maps outfits to logits
    ) -> None:
        super().__init__()
        self.collocation = collocation

    def forward(self, upper: Tensor, bag: Tensor, lower: Tensor, shoes: Tensor) -> Tensor:
        """Map four uint8 (B, S, S, 3) to float32 (B, 1) in [0, 1]."""
        dtype = _dtype_of(self.collocation)
        images = [image_from_bytes(image, dtype) for image in (upper, bag, lower, shoes)]  # 4 x (B, 3, S, S)
        logit: Tensor = self.collocation(torch.stack(images, dim=1))  # (B,)
        return torch.sigmoid(logit.float()).unsqueeze(1)  # (B, 1)

"""The ensembles' first and last steps as plain functions, shared by the server and by generation in this process.

Every step maps arrays by tensor name to arrays by tensor name. A step raises InputError for a request that cannot be
answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.contracts import Arrays
from outfitgan.errors import InputError
from outfitgan.images import encode_png, load_image, load_mask
from outfitgan.masks import THRESHOLD, clean_mask, require_mask

SOURCE_NOT_SENT = "SOURCE was not sent: send the image of the item you have."
MASK_NOT_SENT = (
    "An item was asked for whose mask was not sent: send MASK_<ITEM> for every item you ask for, "
    "and all of them for COMPATIBILITY."
)
MASK_NOT_MADE = (
    "A mask that was generated from SOURCE is empty: send a photo of one item on a white ground, "
    "or masks of your own to outfit_encoded."
)


def prepare(inputs: Arrays, masks: Sequence[str]) -> Arrays:
    """Pass SOURCE (B, S, S, 3) and the masks (B, S, S, 1) on; one of `masks` that was not sent becomes all zero.

    Tensors are taken as they are: the graphs cut masks at THRESHOLD. Those sent as files are cleaned, by `decode`.
    """
    source = _source(inputs)
    prepared: Arrays = {"SOURCE": source}
    for name in masks:
        if name in inputs:
            for label, mask in zip(_labels(name, len(source)), inputs[name], strict=True):
                require_mask(mask, label)
        prepared[name] = inputs.get(name, _no_masks(source.shape))
    return prepared


def decode(inputs: Arrays, masks: Sequence[str], size: int) -> Arrays:
    """Decode SOURCE and the masks, each (B, 1) files, to what `prepare` returns; S is `size`.

    Masks are cleaned as `outfitgan generate` cleans them in its own process, pixel for pixel.
    """
    decoded = decode_source(inputs, size)
    source = decoded["SOURCE"]
    for name in masks:
        if name in inputs:
            labelled = zip(_labels(name, len(source)), inputs[name][:, 0], strict=True)
            decoded[name] = np.stack([load_mask(data, label, size).pixels for label, data in labelled])
        else:
            decoded[name] = _no_masks(source.shape)
    return decoded


def decode_source(inputs: Arrays, size: int) -> Arrays:
    """Decode SOURCE (B, 1) files to SOURCE (B, S, S, 3); S is `size`."""
    files = _source(inputs)
    labelled = zip(_labels("SOURCE", len(files)), files[:, 0], strict=True)
    return {"SOURCE": np.stack([load_image(data, label, size).pixels for label, data in labelled])}


def clean(inputs: Arrays) -> Arrays:
    """Clean generated silhouettes MASK (B, S, S, 1) as `clean_mask` does; refuse one that is empty."""
    soft = inputs["MASK"]
    if (soft.max(axis=(1, 2, 3)) < THRESHOLD).any():
        raise InputError(MASK_NOT_MADE)
    return {"MASK": np.stack([clean_mask(levels, "MASK").pixels for levels in soft])}


def finish(inputs: Arrays) -> Arrays:
    """Pass IMAGE (B, S, S, 3) on; refuse it if one of MASK (B, S, S, 1) is the zero of a mask that was not sent."""
    _require_sent(inputs["MASK"])
    return {"IMAGE": inputs["IMAGE"]}


def encode(inputs: Arrays) -> Arrays:
    """Encode IMAGE (B, S, S, 3) to PNG (B, 1) files, refusing what `finish` refuses."""
    _require_sent(inputs["MASK"])
    return {"PNG": _files(inputs["IMAGE"])}


def encode_mask(inputs: Arrays) -> Arrays:
    """Encode MASK (B, S, S, 1) to PNG (B, 1) files."""
    return {"PNG": _files(inputs["MASK"])}


def score(inputs: Arrays) -> Arrays:
    """Pass COMPATIBILITY (B, 1) on; refuse it unless every MASK_<ITEM> (B, S, S, 1) was sent."""
    for name, mask in inputs.items():
        if name.startswith("MASK_"):
            _require_sent(mask)
    return {"COMPATIBILITY": inputs["COMPATIBILITY"]}


def _files(pictures: NDArray[np.uint8]) -> NDArray[np.object_]:
    files = np.empty((len(pictures), 1), dtype=np.object_)
    files[:, 0] = [encode_png(pixels) for pixels in pictures]
    return files


def _source(inputs: Arrays) -> NDArray[Any]:
    if "SOURCE" not in inputs:
        raise InputError(SOURCE_NOT_SENT)
    return inputs["SOURCE"]


def _no_masks(source_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.zeros((*source_shape[:3], 1), np.uint8)


def _require_sent(masks: NDArray[np.uint8]) -> None:
    if not masks.any(axis=(1, 2, 3)).all():
        raise InputError(MASK_NOT_SENT)


def _labels(name: str, batch: int) -> list[str]:
    """Name each entry of a batch as its sender knows it."""
    return [name] if batch == 1 else [f"{name}[{index}]" for index in range(batch)]

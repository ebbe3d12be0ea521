"""A request for an outfit: a photo, and for each item to generate a reference mask, from a file or generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import InputError
from outfitgan.images import LoadedImage, encode_png, load_image, load_mask, read_bytes
from outfitgan.items import ItemKind
from outfitgan.masks import THRESHOLD, clean_mask

Pixels = NDArray[np.uint8]
MaskChoice = Path | None
"""A mask's file, or None for one that is generated."""


class OutfitService(Protocol):
    """What generates outfits: the pipeline of this process, or a server's client."""

    def targets(self) -> tuple[ItemKind, ...]:
        """Return the kinds that it generates."""

    def image_size(self) -> int:
        """Return S."""

    def mask_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds whose reference mask can be generated."""

    def aligned_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds that have a SAM."""

    def soft_mask(self, kind: ItemKind, source: Pixels) -> Pixels:
        """Return a generated silhouette (S, S, 1)."""

    def align(self, kind: ItemKind, source: Pixels, mask: Pixels) -> dict[str, NDArray[np.generic]]:
        """Return WARPED, MATCH and WEIGHT."""


@dataclass(frozen=True)
class ReferenceMask:
    """The mask of one item."""

    pixels: Pixels  # (S, S, 1) of 0 and 255
    file: bytes  # what a server is sent
    generated: bool


@dataclass(frozen=True)
class Request:
    """One request, read and checked."""

    source: Pixels  # (S, S, 3)
    source_file: bytes
    masks: dict[ItemKind, ReferenceMask]
    notes: tuple[str, ...]  # what was done to the files and which masks were generated, a sentence each

    def mask_pixels(self) -> dict[ItemKind, Pixels]:
        """Return each mask (S, S, 1)."""
        return {kind: mask.pixels for kind, mask in self.masks.items()}


def parse_masks(options: Sequence[str]) -> dict[ItemKind, MaskChoice]:
    """Return where each mask comes from, of KIND=FILE and KIND=auto options; raise InputError on another."""
    masks: dict[ItemKind, MaskChoice] = {}
    for option in options:
        kind, equals, path = option.partition("=")
        if not equals or not path:
            raise InputError(f"--mask takes KIND=FILE or KIND=auto, as in --mask bag=bag.png, not '{option}'.")
        masks[ItemKind.parse(kind)] = None if path == "auto" else Path(path)
    return masks


def read_request(
    source: Path,
    masks: Mapping[ItemKind, MaskChoice],  # empty: all that can be are generated
    only: Sequence[ItemKind],  # empty: every kind with a mask
    service: OutfitService,
) -> Request:
    """Read a request's files and let `service` generate the masks it leaves out.

    A generated mask that is empty leaves its item out, with a note.

    Raises:
        InputError: on the first file that cannot be used, or an item that `service` cannot generate.

    """
    chosen = _chosen(masks, only, service)
    files = {kind: read_bytes(path) for kind, path in chosen.items() if path}
    data = read_bytes(source)
    size = service.image_size()
    loaded = {kind: load_mask(file, str(chosen[kind]), size, kind) for kind, file in files.items()}
    photo = load_image(data, str(source), size)
    notes = [*photo.notes, *(note for mask in loaded.values() for note in mask.notes)]
    made: dict[ItemKind, ReferenceMask] = {}
    for kind in chosen:
        if kind in loaded:
            made[kind] = ReferenceMask(loaded[kind].pixels, files[kind], generated=False)
        elif (mask := _generated(kind, photo, service)) is not None:
            notes += [f"The mask of {kind} was generated from {source}.", *mask.notes]
            made[kind] = ReferenceMask(mask.pixels, encode_png(mask.pixels), generated=True)
        else:
            notes.append(f"The mask generated for {kind} is empty: {kind} is left out; give --mask {kind}=FILE for it.")
    if not made:
        kind = next(iter(chosen))
        raise InputError(
            f"Every mask generated from {source} is empty: give masks of your own, as in --mask {kind}=FILE."
        )
    return Request(photo.pixels, data, made, tuple(notes))


def _chosen(
    masks: Mapping[ItemKind, MaskChoice], only: Sequence[ItemKind], service: OutfitService
) -> dict[ItemKind, MaskChoice]:
    """Return where the mask of each item to make comes from; raise InputError if one cannot be made."""
    kinds = service.mask_kinds()
    if not masks and not kinds:
        raise InputError(
            "No mask was given and there are no mask generators here: add --mask KIND=FILE for each item to make, "
            "or train them with 'outfitgan train-masks' and export and build the run again."
        )
    offered: Mapping[ItemKind, MaskChoice] = masks or dict.fromkeys(kinds)
    for kind in only or offered:
        if kind not in service.targets():
            raise InputError(f"Made here are {', '.join(service.targets())}, not {kind}; ask for those only.")
        if kind not in offered:
            raise InputError(f"There is no mask for {kind}; add --mask {kind}=FILE, or leave {kind} out with --only.")
        if offered[kind] is None and kind not in kinds:
            raise InputError(
                f"There is no mask generator for {kind} here: give --mask {kind}=FILE, or train them with "
                "'outfitgan train-masks' and export and build the run again."
            )
    return {kind: offered[kind] for kind in only or offered}


def _generated(kind: ItemKind, source: LoadedImage, service: OutfitService) -> LoadedImage | None:
    """Return the mask generated for `kind`, cleaned, or None if it is empty."""
    soft = service.soft_mask(kind, source.pixels)
    if soft.max() < THRESHOLD:
        return None
    cleaned = clean_mask(soft, f"generated for {kind}", kind)
    return LoadedImage(cleaned.pixels, cleaned.notes)

"""Reference masks as the networks know them: black and white, without JPEG's specks and pinholes.

Ours throughout: the paper's masks are silhouettes, but a service that stores them as JPEG hands out grey edges with
ringing around them. Nothing here depends on scipy, so that files are cleaned alike in training, on a server and on an
edge box. Raw tensors sent to a server are not cleaned: their graphs cut them at THRESHOLD and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from outfitgan.errors import InputError
from outfitgan.items import ItemKind
from outfitgan.patches import areas_of, joined_by_corners, joined_by_sides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from outfitgan.patches import Numbers, Region

THRESHOLD = 128
"""The level from which a mask's pixel belongs to the item, everywhere: in the exported graphs too."""

# Shares of the largest outline's area, its holes included: that area survives the cleaning, so cleaning twice changes
# nothing. JPEG at quality 10 leaves specks of up to 0.25 % and pinholes of up to 0.1 %, both in small masks.
_SPECK = 0.005  # a smaller patch is dropped
_PINHOLE = 0.002  # a smaller hole is filled; the drawn bags' handles take 1 % and more
_NOTED = 0.002  # a change of as many pixels or fewer goes unsaid
_PIECE = 0.05  # a smaller patch is a detail, no piece of its own

_PIECES = {ItemKind.UPPER: 1, ItemKind.BAG: 1, ItemKind.LOWER: 1, ItemKind.SHOES: 2}
_AT_BORDER = 0.05  # of the border's pixels
_SMALLEST, _LARGEST = 0.01, 0.9  # of the square


@dataclass(frozen=True)
class CleanedMask:
    """A silhouette ready for a network, and one sentence for every change or sign that a person should know of."""

    pixels: NDArray[np.uint8]  # (S, S, 1) of 0 and 255
    notes: tuple[str, ...]


def clean_mask(levels: NDArray[np.uint8], label: str, kind: ItemKind | None = None) -> CleanedMask:
    """Cut a grey mask (S, S) or (S, S, 1) at THRESHOLD, drop its specks and fill its pinholes.

    `label` is what the sentences call the mask. `kind` changes sentences only, never a pixel: with it, a silhouette
    in more pieces than such an item has is warned of. A mask of 0 and 255 without specks or pinholes stays as it is.

    Raises:
        InputError: if the mask is empty.

    """
    require_mask(levels, label)
    subject = f"The mask {label}"
    notes: list[str] = []
    region = levels.reshape(levels.shape[:2]) >= THRESHOLD  # (S, S)
    outlines = joined_by_corners(region | (_holes(region) > 0))
    whole = int(areas_of(outlines).max())
    region = _without_specks(region, outlines, subject, notes)
    region = _without_pinholes(region, whole, subject, notes)
    notes.extend(_warnings(region, whole, subject, kind))
    return CleanedMask(levels_of(region)[..., None], tuple(notes))


def levels_of(region: Region) -> NDArray[np.uint8]:
    """Return a mask (...) of 255 where `region` (...) is the item and 0 elsewhere."""
    return np.where(region, np.uint8(255), np.uint8(0))


def require_mask(mask: NDArray[np.uint8], label: str) -> None:
    """Raise InputError if no pixel of `mask` (any shape, 0 to 255) belongs to the item."""
    brightest = int(mask.max(initial=0))
    if brightest < THRESHOLD:
        raise InputError(
            f"The mask {label} is empty (its brightest pixel is {brightest} of 255): "
            "paint the item's silhouette white on black."
        )


def _holes(region: Region) -> Numbers:
    """Number the holes of `region` (S, S): patches of ground that do not reach the border."""
    ground = joined_by_sides(np.pad(~region, 1, constant_values=True))[1:-1, 1:-1]
    return np.maximum(ground - 1, 0)  # the first is the ground around the silhouette


def _without_specks(region: Region, outlines: Numbers, subject: str, notes: list[str]) -> Region:
    pieces = joined_by_corners(region)
    pixels, outline_areas = areas_of(pieces), areas_of(outlines)
    largest, whole = int(outline_areas.argmax()), int(outline_areas.max())
    outer = pieces.flat[int((outlines == largest).argmax())]  # an outline's first pixel is no hole
    dropped = pixels < _SPECK * whole
    dropped[[0, outer]] = False  # the largest outline stays, however thin it is drawn
    if pixels[dropped].sum() > _NOTED * whole:
        notes.append(f"{subject} had {_counted(int(dropped.sum()), 'speck')} beside its silhouette: removed.")
    return region & ~dropped[pieces]


def _without_pinholes(region: Region, whole: int, subject: str, notes: list[str]) -> Region:
    holes = _holes(region)
    pixels = areas_of(holes)
    filled = pixels < _PINHOLE * whole
    filled[0] = False
    if pixels[filled].sum() > _NOTED * whole:
        notes.append(f"{subject} had {_counted(int(filled.sum()), 'pinhole')} in its silhouette: filled.")
    return region | filled[holes]


def _warnings(region: Region, whole: int, subject: str, kind: ItemKind | None) -> Iterator[str]:
    """Yield what may go wrong with a cleaned silhouette (S, S)."""
    pieces = int((areas_of(joined_by_corners(region)) >= _PIECE * whole).sum())
    if kind is not None and pieces > _PIECES[kind]:
        yield (
            f"{subject} is in {pieces} pieces where {kind} may have {_PIECES[kind]}: "
            "join them, or the image may fall into disconnected parts."
        )
    border = float(np.concatenate([region[0], region[-1], region[1:-1, 0], region[1:-1, -1]]).mean())
    covered = float(region.mean())
    if border == 1 and covered > 0.5:
        yield f"{subject} is set on its whole border: masks are white on black, so invert it if it is not."
        return  # margin and size are those of the ground
    if border > _AT_BORDER:
        yield f"{subject} lies on {border:.0%} of its border: leave a margin, or the item may look cut off."
    if covered < _SMALLEST:
        yield f"{subject} covers only {covered:.2%} of its square: enlarge it, or the item will hardly show."
    if covered > _LARGEST:
        yield f"{subject} covers {covered:.0%} of its square: leave a margin, or the item will lose its outline."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

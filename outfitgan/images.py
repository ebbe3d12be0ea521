"""Photos and silhouettes as the networks take them: square, uint8, one size; the client and the server share this."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from outfitgan.errors import InputError
from outfitgan.masks import THRESHOLD, clean_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from outfitgan.items import ItemKind

MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 50_000_000
MIN_SIDE = 16

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_STRIP_PIXELS = 2**20
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class LoadedImage:
    """Pixels ready for a network, and one sentence for every change a person might not expect."""

    pixels: NDArray[np.uint8]  # (size, size, 3) RGB, or (size, size, 1) of 0 and 255
    notes: tuple[str, ...]


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise InputError if it is missing, not a file, unreadable or over MAX_BYTES."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: name one image file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path} has {size / 2**20:.0f} MiB: send at most {MAX_BYTES // 2**20} MiB.")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path} ({error}): check the path and its permissions.") from error


def load_image(data: bytes, label: str, size: int) -> LoadedImage:
    """Decode a garment photo to (size, size, 3) RGB, padded with white; raise InputError if it cannot be used."""
    subject = f"The image {label}"
    notes: list[str] = []
    image = _flatten(_decode(data, subject, notes), _WHITE, subject, notes)
    width, height = image.size
    if width != height:
        notes.append(f"{subject} is {width}x{height}: padded with white to a square.")
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    if inner != image.size:
        image = image.resize(inner, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    # Padding comes after the resize: the square around a thin strip of 50 million pixels would not fit in memory.
    canvas = Image.new("RGB", (size, size), _WHITE)
    canvas.paste(image, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return LoadedImage(np.array(canvas), tuple(notes))


def load_mask(data: bytes, label: str, size: int, kind: ItemKind | None = None) -> LoadedImage:
    """Decode a silhouette to (size, size, 1) of 0 and 255, cleaned (masks.py), with a note of what looks wrong.

    `kind` adds to the notes only: the same file gives the same pixels with it and without.

    Raises:
        InputError: if the mask is empty, oblong or unusable.

    """
    subject = f"The mask {label}"
    notes: list[str] = []
    image = _decode(data, subject, notes)
    width, height = image.size
    if width != height:
        raise InputError(f"{subject} is {width}x{height}, not square: extend its canvas with black to a square.")
    image = _flatten(image, _BLACK, subject, [])
    grey = image.convert("L")
    _note_grey_pixels(grey, subject, notes)
    if width != size:
        notes.append(f"{subject} is {width}x{height}: resized to {size}x{size}.")
        grey = grey.resize((size, size), Image.Resampling.BOX)
    cleaned = clean_mask(np.array(grey), label, kind)
    return LoadedImage(cleaned.pixels, (*notes, *cleaned.notes))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3), (H, W, 1) or (H, W) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def _decode(data: bytes, subject: str, notes: list[str]) -> Image.Image:
    """Return the upright picture, fully decoded, in whatever mode the file has."""
    if not data:
        raise InputError(f"{subject} is empty (0 bytes): send the whole file.")
    if len(data) > MAX_BYTES:
        raise InputError(f"{subject} has {len(data) / 2**20:.0f} MiB: send at most {MAX_BYTES // 2**20} MiB.")
    image = _open(data, subject)
    _check_header(image, subject)
    orientation = _guarded(lambda: image.getexif().get(_ORIENTATION_TAG), lambda _: None)
    if orientation in _UPRIGHT:
        notes.append(f"{subject} was turned upright as its EXIF orientation says.")

    def corrupt(error: Exception) -> None:
        raise InputError(f"{subject} is truncated or corrupt ({error}): send the whole file or save it again.")

    _guarded(image.load, corrupt)
    # Pillow turns a TIFF upright by itself while it decodes.
    if image.format != "TIFF" and orientation in _UPRIGHT:
        return image.transpose(_UPRIGHT[orientation])
    return image


def _open(data: bytes, subject: str) -> Image.Image:
    def refuse(error: Exception) -> Image.Image:
        if isinstance(error, Image.DecompressionBombError):
            raise InputError(f"{subject} has over {MAX_PIXELS // 10**6} million pixels: make it smaller.")
        raise InputError(f"{subject} is not a JPEG, PNG, WEBP, BMP or TIFF image: convert it to one of these.")

    return _guarded(lambda: Image.open(io.BytesIO(data), formats=_FORMATS), refuse)


def _check_header(image: Image.Image, subject: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{subject} is {width}x{height}: make it smaller, at most {MAX_PIXELS // 10**6} million pixels."
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{subject} is {width}x{height}: send at least {MIN_SIDE}x{MIN_SIDE} pixels.")
    # A phone's JPEG may carry a second picture (depth, gain map) as MPO; its first is the photo.
    if image.format != "MPO" and _guarded(lambda: _has_second_frame(image), lambda _: False):
        raise InputError(f"{subject} is animated or has pages: save one frame as a still image.")


def _has_second_frame(image: Image.Image) -> bool:
    image.seek(1)  # n_frames would read every directory of a TIFF, of which a small file can hold millions
    return True


def _flatten(image: Image.Image, ground: tuple[int, int, int], subject: str, notes: list[str]) -> Image.Image:
    """Return `image` as 8-bit RGB on `ground`."""
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image, subject, notes)
    if image.has_transparency_data:
        return _on_ground(image, ground, subject, notes)
    if image.mode == "CMYK":
        notes.append(f"{subject} was converted from CMYK to RGB, so its colours may differ from print.")
    if image.mode in ("1", "L"):
        notes.append(f"{subject} is greyscale: its three channels are equal.")
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError:
        raise InputError(f"{subject} has the colour mode {image.mode}: save it as RGB.") from None


def _on_ground(image: Image.Image, ground: tuple[int, int, int], subject: str, notes: list[str]) -> Image.Image:
    canvas, lowest = Image.new("RGB", image.size), 255
    for top, strip in _strips(image):
        layer = strip.convert("RGBA")
        lowest = min(lowest, np.array(layer.getchannel("A")).min())
        canvas.paste(
            Image.alpha_composite(Image.new("RGBA", layer.size, (*ground, 255)), layer).convert("RGB"), (0, top)
        )
    if lowest < 255:
        notes.append(f"{subject} is transparent in places: laid on white.")
    return canvas


def _to_8_bits(image: Image.Image, subject: str, notes: list[str]) -> Image.Image:
    """Scale a deep grey image by the full range of its kind of number, where Pillow's own conversion clips."""
    if image.mode.startswith("I;16"):
        full = 65535.0
    else:
        highest = max(float(_levels(strip).max()) for _, strip in _strips(image))
        ranges = (65535.0, 2.0**31 - 1) if image.mode == "I" else (1.0, 255.0, 65535.0)
        full = next((top for top in ranges if highest <= top), highest)
    notes.append(f"{subject} has more than 8 bits a channel: 0 to {full:.0f} was scaled to 0 to 255.")
    grey = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        levels = _levels(strip).astype(np.float32) / np.float32(full)
        grey[top : top + strip.height] = np.rint(np.clip(levels, 0, 1) * 255)
    return Image.fromarray(grey)


def _levels(image: Image.Image) -> NDArray[np.generic]:
    """Return the numbers of a deep image, 0 for those that are none."""
    return np.nan_to_num(np.array(image), posinf=0.0, neginf=0.0)


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the rows of `image` a few at a time, each strip with its first row: wider numbers fit in memory so."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _note_grey_pixels(grey: Image.Image, subject: str, notes: list[str]) -> None:
    share = sum(grey.histogram()[32:224]) / (grey.width * grey.height)
    if share > 0.02:
        notes.append(f"{subject} has {share:.0%} grey pixels: cut at {THRESHOLD} into black and white.")


def _guarded(action: Callable[[], _Result], failed: Callable[[Exception], _Result]) -> _Result:
    """Return `action()`, without Pillow's warnings, or what `failed` makes of its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return action()
        except Exception as error:  # Pillow's parsers raise whatever a damaged file makes them hit.
            return failed(error)

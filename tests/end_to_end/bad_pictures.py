"""Pictures that a person may send by mistake, as files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def damaged_jpeg(image: Image.Image) -> bytes:
    """The whole file, but its first Huffman table is zeros."""
    data = saved(image, "JPEG")
    table = data.index(b"\xff\xc4") + 4
    return data[:table] + bytes(20) + data[table + 20 :]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def frames(image: Image.Image, fmt: str) -> bytes:
    return saved(image, fmt, save_all=True, append_images=[image.rotate(90)])


def huge() -> bytes:
    """12000x12000 in 41 kB."""
    return saved(Image.new("1", (12000, 12000), 1), "PNG")


def on_canvas(image: Image.Image, width: int, height: int) -> Image.Image:
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(image, (0, 0))
    return canvas


def deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, of which the lower 8 say nothing new."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def see_through(image: Image.Image) -> Image.Image:
    """The upper half is transparent, with a red that must not be seen."""
    layer = image.convert("RGBA")
    layer.paste((255, 0, 0, 0), (0, 0, image.width, image.height // 2))
    return layer


def turned(image: Image.Image) -> bytes:
    """A JPEG as a phone held sideways writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, "JPEG", quality=95, exif=exif)


def as_upright_png(image: Image.Image) -> bytes:
    """The pixels of `turned`, stored upright."""
    stored = Image.open(io.BytesIO(saved(image, "JPEG", quality=95)))
    return saved(Image.fromarray(np.rot90(np.asarray(stored), -1)), "PNG")


def upper_half_white(image: Image.Image) -> bytes:
    opaque = image.copy()
    opaque.paste((255, 255, 255), (0, 0, image.width, image.height // 2))
    return saved(opaque, "PNG")


def through_cmyk(image: Image.Image) -> bytes:
    """The pixels of the CMYK JPEG, converted as 255 less each ink, less black."""
    stored = np.asarray(Image.open(io.BytesIO(saved(image.convert("CMYK"), "JPEG")))).astype(int)
    rgb = (255 - stored[..., :3]) * (255 - stored[..., 3:]) / 255
    return saved(Image.fromarray(np.rint(rgb).astype(np.uint8)), "PNG")

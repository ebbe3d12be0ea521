"""Photos and silhouettes: what is taken, what is refused, and in which words."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from skimage.metrics import structural_similarity

from outfitgan.errors import InputError
from outfitgan.images import MAX_BYTES, encode_png, load_image, load_mask, read_bytes
from outfitgan.masks import require_mask

Loader = Callable[[bytes, str, int], object]
BOTH = pytest.mark.parametrize("load", [load_image, load_mask])


def saved(image: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def photo(width: int = 64, height: int = 64) -> Image.Image:
    """Left half red, right half green, a blue square in the top left corner."""
    image = Image.new("RGB", (width, height), (200, 40, 40))
    image.paste((40, 200, 40), (width // 2, 0, width, height))
    image.paste((40, 40, 200), (0, 0, width // 4, height // 4))
    return image


def disc(side: int, inverted: bool = False) -> Image.Image:
    image = Image.new("L", (side, side), 255 * inverted)
    ImageDraw.Draw(image).ellipse((side // 4, side // 4, 3 * side // 4, 3 * side // 4), fill=255 * (not inverted))
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that only claims its size: enough for the header to be judged."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def one_sentence(error: pytest.ExceptionInfo[InputError], label: str) -> None:
    text = str(error.value)
    assert label in text
    assert text.endswith(".")
    assert "\n" not in text


@BOTH
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"dear diary, this is no photo\n" * 40, "not a JPEG, PNG, WEBP, BMP or TIFF"),
        (saved(photo(), "GIF"), "not a JPEG, PNG, WEBP, BMP or TIFF"),
        (saved(photo(8, 64)), "8x64: send at least 16x16"),
        (png_header(12000, 12000), "12000x12000: make it smaller"),
        (png_header(8000, 8000), "8000x8000: make it smaller"),
        (png_header(30000, 30000), "50 million pixels: make it smaller"),
        (
            saved(photo(), "PNG", save_all=True, append_images=[photo().rotate(90)]),
            "is animated or has pages",
        ),
        (
            saved(photo(), "WEBP", save_all=True, append_images=[photo().rotate(90)]),
            "is animated or has pages",
        ),
        (
            saved(photo(), "TIFF", save_all=True, append_images=[photo()] * 2),
            "is animated or has pages",
        ),
    ],
    ids=["empty", "text", "gif", "tiny", "12000", "8000", "30000", "apng", "webp", "tiff-pages"],
)
def test_the_unusable_is_refused_in_one_sentence(load: Loader, data: bytes, says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor may Pillow's bomb warning get out
        with pytest.raises(InputError, match=says) as error:
            load(data, "shirt.jpg", 32)
    one_sentence(error, "shirt.jpg")


@BOTH
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_half_a_file_is_refused(load: Loader, fmt: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    data = saved(noise, fmt)
    load(data, "bag", 32)
    with pytest.raises(InputError) as error:
        load(data[: len(data) // 2], "bag", 32)
    one_sentence(error, "bag")


def test_too_many_bytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="at most 32 MiB"):
        read_bytes(path)
    with pytest.raises(InputError, match="at most 32 MiB"):
        load_image(bytes(MAX_BYTES + 1), "huge", 32)


def test_read_bytes_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a.png") == b"abc"
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "none.png", "There is no file")):
        with pytest.raises(InputError, match=says) as error:
            read_bytes(path)
        one_sentence(error, str(path))
    with pytest.raises(InputError, match="Cannot read"):
        read_bytes(tmp_path / "a.png" / "b.png")
    with pytest.raises(InputError, match="Cannot read"):
        read_bytes(Path("a\0b"))


@settings(max_examples=80, deadline=None)
@given(
    fmt=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12),
    mask=st.booleans(),
)
def test_a_damaged_file_is_decoded_or_refused_and_nothing_else(
    fmt: str, flips: list[tuple[float, int]], mask: bool
) -> None:
    data = bytearray(saved(photo(24, 24), fmt))
    for place, value in flips:
        data[int(place * len(data))] = value
    load = load_mask if mask else load_image
    with suppress(InputError):
        loaded = load(bytes(data), "damaged", 32)
        assert loaded.pixels.shape == (32, 32, 1 if mask else 3)
        assert loaded.pixels.dtype == np.uint8


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(fmt: str, orientation: int) -> None:
    upright = photo()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that makes the stored picture
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if fmt in ("JPEG", "WEBP") else {}
    loaded = load_image(saved(stored, fmt, exif=exif, **options), "shirt", 64)
    assert np.abs(loaded.pixels.astype(int) - np.asarray(upright)).mean() < 6
    assert any("EXIF" in note for note in loaded.notes) == (orientation > 1)


def test_a_phones_second_picture_is_ignored() -> None:
    data = saved(photo(), "MPO", save_all=True, append_images=[photo().rotate(180)], quality=95)
    assert np.abs(load_image(data, "phone", 64).pixels.astype(int) - np.asarray(photo())).mean() < 6


def test_cmyk_is_converted_with_a_note() -> None:
    loaded = load_image(saved(photo().convert("CMYK"), "JPEG", quality=95), "print", 64)
    assert np.abs(loaded.pixels.astype(int) - np.asarray(photo())).mean() < 6
    assert any("CMYK" in note for note in loaded.notes)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(fmt: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64), (64, 1)).astype(np.uint16)
    loaded = load_image(saved(Image.fromarray(ramp), fmt), "scan", 64)
    assert np.abs(loaded.pixels - np.rint(ramp / 257)[..., None]).max() <= 1
    assert any("8 bits" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("dtype", "full"), [(np.float32, 1.0), (np.float32, 255.0), (np.int32, 65535), (np.int32, 2**31 - 1)]
)
def test_deep_numbers_are_scaled_by_their_range(dtype: type, full: float) -> None:
    ramp = np.tile(np.linspace(0, full, 64), (64, 1)).astype(dtype)
    loaded = load_image(saved(Image.fromarray(ramp), "TIFF"), "scan", 64)
    assert np.abs(loaded.pixels[0, :, 0] - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(mode: str) -> None:
    layer = Image.new("RGBA", (64, 64), (10, 10, 10, 0))
    layer.paste((10, 10, 10, 255), (16, 16, 48, 48))
    image = layer.quantize(4) if mode == "P" else layer.convert(mode)
    loaded = load_image(saved(image), "cut", 64)
    assert (loaded.pixels[:8] == 255).all()
    assert (loaded.pixels[20:44, 20:44] < 30).all()
    assert any("transparent" in note for note in loaded.notes)


def test_an_opaque_alpha_channel_and_a_plain_photo_need_no_note() -> None:
    assert load_image(saved(photo().convert("RGBA")), "a", 64).notes == ()
    loaded = load_image(saved(photo()), "a", 64)
    assert loaded.notes == ()
    np.testing.assert_array_equal(loaded.pixels, np.asarray(photo()))


def test_grey_becomes_three_equal_channels() -> None:
    loaded = load_image(saved(photo().convert("L")), "grey", 32)
    assert (np.ptp(loaded.pixels, axis=2) == 0).all()
    assert any("greyscale" in note for note in loaded.notes)


@settings(max_examples=40, deadline=None)
@given(width=st.integers(16, 300), height=st.integers(16, 300), size=st.sampled_from([32, 64, 100]))
def test_an_oblong_photo_keeps_its_shape_between_white_bars(width: int, height: int, size: int) -> None:
    loaded = load_image(saved(Image.new("RGB", (width, height), (0, 0, 0))), "dress", size)
    inked = (loaded.pixels == 0).all(axis=2)
    tall, wide = inked.any(axis=1).sum(), inked.any(axis=0).sum()
    assert max(tall, wide) == size
    assert abs(tall / size - height / max(width, height)) <= 1 / size
    assert abs(wide / size - width / max(width, height)) <= 1 / size
    assert (loaded.pixels[~inked] == 255).all()
    assert bool(loaded.notes) == (width != height)


def test_a_strip_of_millions_of_pixels_does_not_fill_the_memory() -> None:
    loaded = load_image(saved(Image.new("1", (2_000_000, 16)), "PNG"), "strip", 64)
    assert loaded.pixels.shape == (64, 64, 3)


@pytest.mark.parametrize(("stored", "size"), [(256, 64), (32, 128)])
def test_resizing_looks_like_the_original(stored: int, size: int) -> None:
    reference = np.asarray(photo(size, size))
    loaded = load_image(saved(photo(stored, stored)), "a", size).pixels
    assert structural_similarity(loaded, reference, channel_axis=2) > 0.9


DEEP = {"I;16": np.full((3000, 3000), 60000, np.uint16), "F": np.ones((3000, 3000), np.float32)}
DEEP["RGBA"] = np.full((3000, 3000, 4), 200, np.uint8)


@BOTH
@pytest.mark.parametrize("mode", DEEP)
def test_a_large_deep_or_transparent_picture_takes_little_memory(load: Loader, mode: str) -> None:
    """In a process of its own, whose peak the kernel knows: Pillow's pixels are not Python's."""
    code = (
        "import re, sys; from pathlib import Path; from outfitgan import images\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "data = sys.stdin.buffer.read(); before = peak()\n"
        f"images.{load.__name__}(data, 'big', 64); print(peak() - before)"
    )
    options = {"fmt": "TIFF", "compression": "tiff_adobe_deflate"} if mode == "F" else {}
    data = saved(Image.fromarray(DEEP[mode]), **options)
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert int(done.stdout) / 1024 < 115  # MiB; 9 million pixels: twice 34 decoded, and the strips


def test_strips_join_without_a_seam() -> None:
    ramp = np.tile(np.linspace(0, 65535, 2100), (2100, 1)).astype(np.uint16).T  # more than one strip
    whole = load_image(saved(Image.fromarray(np.ascontiguousarray(ramp))), "scan", 2100).pixels
    np.testing.assert_array_equal(whole[..., 0], np.rint(ramp / 257).astype(np.uint8))
    layer = np.full((2100, 2100, 4), 90, np.uint8)
    layer[..., 3] = whole[..., 0]
    alpha = layer[..., 3].astype(float) / 255
    expected = 90 * alpha + 255 * (1 - alpha)
    loaded = load_image(saved(Image.fromarray(layer)), "cut", 2100).pixels
    assert np.abs(loaded[..., 0] - expected).max() <= 1


def test_the_pages_of_a_tiff_are_not_all_read() -> None:
    first, pages = saved(photo(16, 16), "TIFF"), 10_000
    begin = struct.unpack_from("<I", first, 4)[0]
    end = begin + 2 + 12 * struct.unpack_from("<H", first, begin)[0]  # where the next directory is named
    start, step = len(first) + len(first) % 2, end - begin + 4
    links = [start + step * page for page in range(pages)] + [0]
    chain = b"".join(first[begin:end] + struct.pack("<I", link) for link in links[1:])
    data = (first[:end] + struct.pack("<I", links[0]) + first[end + 4 :]).ljust(start, b"\0") + chain
    began = time.process_time()
    with pytest.raises(InputError, match="has pages"):
        load_image(data, "pages", 32)
    assert time.process_time() - began < 0.5


def test_the_same_bytes_give_the_same_pixels() -> None:
    data = saved(photo(301, 207), "JPEG")
    np.testing.assert_array_equal(load_image(data, "a", 64).pixels, load_image(data, "b", 64).pixels)


def test_a_mask_is_taken_as_it_is() -> None:
    loaded = load_mask(saved(disc(64)), "bag.png", 64)
    np.testing.assert_array_equal(loaded.pixels[..., 0], np.asarray(disc(64)))
    assert loaded.notes == ()


@pytest.mark.parametrize("stored", [16, 50, 512])
def test_a_mask_of_another_size_is_resized_with_a_note(stored: int) -> None:
    loaded = load_mask(saved(disc(stored)), "bag.png", 64)
    assert set(np.unique(loaded.pixels)) == {0, 255}
    assert abs(loaded.pixels.mean() / 255 - np.asarray(disc(stored)).mean() / 255) < 0.02
    assert [note for note in loaded.notes if f"{stored}x{stored}" in note]


def test_an_oblong_mask_is_refused() -> None:
    with pytest.raises(InputError, match="64x48, not square") as error:
        load_mask(saved(photo(64, 48)), "bag.png", 64)
    one_sentence(error, "bag.png")


def test_jpeg_noise_is_cut_and_only_much_grey_is_noted() -> None:
    clean = load_mask(saved(disc(256), "JPEG", quality=90), "bag", 256)
    assert set(np.unique(clean.pixels)) == {0, 255}
    assert np.mean(clean.pixels[..., 0] != np.asarray(disc(256))) < 0.002
    assert clean.notes == ()
    soft = load_mask(saved(Image.linear_gradient("L")), "bag", 256)
    assert any("grey" in note for note in soft.notes)


def test_a_transparent_mask_is_read_over_black() -> None:
    layer = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    layer.paste((255, 255, 255, 255), (16, 16, 48, 48))
    loaded = load_mask(saved(layer), "bag", 64)
    assert loaded.pixels[..., 0].mean() / 255 == pytest.approx(0.25)


def test_a_16_bit_mask_is_read() -> None:
    deep = Image.fromarray(np.asarray(disc(64)).astype(np.uint16) * 257)
    np.testing.assert_array_equal(load_mask(saved(deep), "bag", 64).pixels[..., 0], np.asarray(disc(64)))


def test_black_on_white_is_suspected() -> None:
    assert any("white on black" in note for note in load_mask(saved(disc(64, inverted=True)), "bag", 64).notes)


@pytest.mark.parametrize("level", [0, 1, 127])
def test_an_empty_mask_is_refused(level: int) -> None:
    empty = np.full((64, 64), level, np.uint8)
    says = re.escape(
        f"The mask bag.png is empty (its brightest pixel is {level} of 255): "
        "paint the item's silhouette white on black."
    )
    with pytest.raises(InputError, match=says):
        load_mask(saved(Image.fromarray(empty)), "bag.png", 32)
    with pytest.raises(InputError, match=says):
        require_mask(empty, "bag.png")
    empty[3, 3] = 128
    require_mask(empty, "bag.png")


@settings(max_examples=30, deadline=None)
@given(shape=st.sampled_from([(20, 30, 3), (20, 30, 1), (20, 30)]), seed=st.integers(0, 99))
def test_png_is_lossless(shape: tuple[int, ...], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    back = np.asarray(Image.open(io.BytesIO(encode_png(pixels))))
    np.testing.assert_array_equal(back, pixels.reshape(back.shape))

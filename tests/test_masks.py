"""Reference masks: what cleaning removes, what it leaves alone, and what it warns of."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter, label

from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.images import encode_png, load_mask
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.masks import CleanedMask, clean_mask
from serving.models.steps import decode, prepare

SPECK, PINHOLE = 0.005, 0.002  # the shares that masks.py states
BY_CORNERS = np.ones((3, 3))
Region = np.ndarray


def drawn(size: int, count: int) -> list[tuple[ItemKind, np.ndarray]]:
    source = SyntheticOutfits(count, size, 0, "train")
    return [(kind, item.mask) for number in range(count) for kind, item in source[number].items.items()]


def jpeg(mask: np.ndarray, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def levels(region: Region) -> np.ndarray:
    return np.where(region, np.uint8(255), np.uint8(0))


def cleaned(region: Region, kind: ItemKind | None = None) -> CleanedMask:
    return clean_mask(levels(region), "bag.png", kind)


def pieces(region: Region) -> int:
    return int(label(region, BY_CORNERS)[1])


def overlap(one: Region, other: Region) -> float:
    return float((one & other).sum() / (one | other).sum())


def square(side: int, rows: slice, columns: slice) -> Region:
    region = np.zeros((side, side), bool)
    region[rows, columns] = True
    return region


SHAPE = square(200, slice(10, 110), slice(10, 110))  # 10,000 pixels


def disc(side: int, radius: float) -> Region:
    row, column = np.indices((side, side)) - (side - 1) / 2
    return np.asarray(np.hypot(row, column) <= radius)


def blobs(side: int, seed: int, noise: float) -> Region:
    """Smooth shapes in several pieces with holes, then salt and pepper; never empty."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((side, side)), rng.uniform(1, side / 8))
    region = (field > np.quantile(field, rng.uniform(0.2, 0.97))) ^ (rng.random((side, side)) < noise)
    region[side // 2, side // 2] = True
    return region


def expected(region: Region) -> Region:
    """The cleaning as one would say it, patch by patch with scipy."""
    outlines, count = label(binary_fill_holes(region), BY_CORNERS)
    largest = max((outlines == number for number in range(1, count + 1)), key=np.sum)
    whole, kept = largest.sum(), np.zeros_like(region)
    parts, count = label(region, BY_CORNERS)
    for part in (parts == number for number in range(1, count + 1)):
        if part.sum() >= SPECK * whole or np.array_equal(binary_fill_holes(part), largest):
            kept |= part
    gaps, count = label(binary_fill_holes(kept) & ~kept)
    for gap in (gaps == number for number in range(1, count + 1)):
        if gap.sum() < PINHOLE * whole:
            kept |= gap
    return kept


@settings(max_examples=150, deadline=None)
@given(side=st.integers(16, 90), seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([0, 0.01, 0.1, 0.5]))
def test_the_cleaning_is_as_stated_and_doing_it_twice_changes_nothing(side: int, seed: int, noise: float) -> None:
    region = blobs(side, seed, noise)
    first = cleaned(region)
    assert (first.pixels.shape, first.pixels.dtype) == ((side, side, 1), np.uint8)
    np.testing.assert_array_equal(first.pixels[..., 0], levels(expected(region)))
    again = clean_mask(first.pixels, "bag.png")
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert not any(" had " in note for note in again.notes)
    assert not ((first.pixels[..., 0] > 0) & ~binary_fill_holes(region)).any()  # nothing is added outside


@pytest.mark.parametrize("quality", [10, 20, 35, 50, 75, 95])
def test_a_drawn_silhouette_survives_jpeg(quality: int) -> None:
    for kind, mask in drawn(256, 12):
        loaded = load_mask(jpeg(mask, quality), "mask.jpg", 256, kind)
        region = loaded.pixels[..., 0] > 0
        assert overlap(region, mask > 0) >= 0.995, kind
        assert pieces(region) == pieces(mask > 0), kind
        assert [note for note in loaded.notes if "grey pixels" not in note] == []


@pytest.mark.parametrize("quality", [5, 10])
def test_the_specks_that_a_plain_cut_leaves_of_a_small_mask_are_gone(quality: int) -> None:
    masks = [mask for _, mask in drawn(64, 60)]
    stored = [np.asarray(Image.open(io.BytesIO(jpeg(mask, quality)))) for mask in masks]
    true = [pieces(mask > 0) for mask in masks]
    assert [pieces(grey >= 128) for grey in stored] != true, "this JPEG leaves no specks, so the test shows nothing"
    assert [pieces(clean_mask(grey, "mask.jpg").pixels[..., 0] > 0) for grey in stored] == true


def test_a_clean_silhouette_stays_byte_for_byte() -> None:
    clean = [mask for _, mask in drawn(128, 20) if np.array_equal(expected(mask > 0), mask > 0)]
    assert len(clean) > 60
    for mask in clean:
        assert clean_mask(mask, "mask.png").pixels.tobytes() == mask.tobytes()
        assert load_mask(encode_png(mask), "mask.png", 128).pixels.tobytes() == mask.tobytes()


def test_patches_are_measured_by_the_largest_outline() -> None:
    for name, pixels, kept in (("speck", 49, False), ("detail", 50, True)):
        region = SHAPE.copy()
        region[150, 10 : 10 + pixels] = True
        assert (cleaned(region).pixels[150].any(), name) == (kept, name)
    for name, pixels, kept in (("pinhole", 19, False), ("hole", 20, True)):
        region = SHAPE.copy()
        region[50, 20 : 20 + pixels] = False
        assert ((cleaned(region).pixels[50, 20:60] == 0).any(), name) == (kept, name)
    frame = SHAPE & ~square(200, slice(11, 109), slice(11, 109))  # its line is 4 % of its outline
    region = frame.copy()
    region[150, 10:59] = True
    np.testing.assert_array_equal(cleaned(region).pixels[..., 0] > 0, frame)


def test_only_a_change_that_matters_is_told() -> None:
    for specks, told in ((20, False), (21, True)):
        region = SHAPE.copy()
        region[150, 10 : 10 + 2 * specks : 2] = True
        notes = cleaned(region).notes
        assert notes == (f"The mask bag.png had {specks} specks beside its silhouette: removed.",) * told
    for pinholes, told in ((20, False), (21, True)):
        region = SHAPE.copy()
        region[50, 20 : 20 + 2 * pinholes : 2] = False
        notes = cleaned(region).notes
        assert notes == (f"The mask bag.png had {pinholes} pinholes in its silhouette: filled.",) * told
    region = SHAPE.copy()
    region[150, 10:50] = True
    assert cleaned(region).notes == ("The mask bag.png had 1 speck beside its silhouette: removed.",)


def test_salt_and_pepper_are_counted_and_gone() -> None:
    rng, shape = np.random.default_rng(3), disc(256, 80)
    salt = (rng.random(shape.shape) < 0.01) & ~disc(256, 83)
    pepper = (rng.random(shape.shape) < 0.01) & disc(256, 77)
    found = cleaned((shape | salt) & ~pepper)
    np.testing.assert_array_equal(found.pixels[..., 0] > 0, shape)
    assert found.notes == (
        f"The mask bag.png had {pieces(salt)} specks beside its silhouette: removed.",
        f"The mask bag.png had {label(pepper)[1]} pinholes in its silhouette: filled.",
    )


def test_a_handle_stays_open_and_a_thin_line_whole() -> None:
    bag = disc(128, 50) & ~disc(128, 20)
    np.testing.assert_array_equal(cleaned(bag, ItemKind.BAG).pixels[..., 0] > 0, bag)
    assert cleaned(bag, ItemKind.BAG).notes == ()
    # The outer line is less than a speck's share of what it encloses; the solid square is smaller, yet has more pixels.
    line = square(1024, slice(8, 1016), slice(8, 1016)) & ~square(1024, slice(9, 1015), slice(9, 1015))
    line |= square(1024, slice(400, 500), slice(400, 500))
    np.testing.assert_array_equal(cleaned(line).pixels[..., 0] > 0, line)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1)])
def test_one_pixel_is_kept_and_warned_of(shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[9, 5] = 128
    found = clean_mask(mask, "bag.png", ItemKind.BAG)
    np.testing.assert_array_equal(np.argwhere(found.pixels), [[9, 5, 0]])
    assert found.notes == (
        "The mask bag.png covers only 0.02% of its square: enlarge it, or the item will hardly show.",
    )


def test_a_checkerboard_is_one_patch_with_pinholes() -> None:
    region = np.indices((64, 64)).sum(axis=0) % 2 == 0
    found = cleaned(region)
    assert (found.pixels[1:-1, 1:-1] == 255).all()
    assert found.notes[0] == f"The mask bag.png had {62 * 62 // 2} pinholes in its silhouette: filled."
    assert "lies on 50% of its border" in found.notes[1]


def garments(count: int) -> Region:
    """`count` equal columns with ground between."""
    region = np.zeros((128, 128), bool)
    for number in range(count):
        region[30:100, 10 + 22 * number : 24 + 22 * number] = True
    return region


@pytest.mark.parametrize("kind", COLLOCATION_ORDER)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_more_pieces_than_the_kind_has_are_warned_of(kind: ItemKind, count: int) -> None:
    most = 2 if kind == ItemKind.SHOES else 1
    sentence = (
        f"The mask bag.png is in {count} pieces where {kind} may have {most}: "
        "join them, or the image may fall into disconnected parts."
    )
    assert cleaned(garments(count), kind).notes == (sentence,) * (count > most)
    assert cleaned(garments(count)).notes == ()


def test_what_joins_at_a_corner_is_one_piece() -> None:
    region = square(64, slice(10, 30), slice(10, 30)) | square(64, slice(30, 50), slice(30, 50))
    assert cleaned(region, ItemKind.BAG).notes == ()


@pytest.mark.parametrize(("pixels", "warned"), [(499, False), (500, True)])
def test_a_detail_is_no_piece(pixels: int, warned: bool) -> None:
    region = SHAPE.copy()
    region[120, 10 : 10 + pixels - 450] = True
    region[121:130, 10:60] = True
    assert any("2 pieces" in note for note in cleaned(region, ItemKind.BAG).notes) == warned


@pytest.mark.parametrize(("length", "share"), [(20, ""), (21, "5%"), (60, "15%")])
def test_a_cut_off_item_is_warned_of(length: int, share: str) -> None:
    notes = cleaned(square(101, slice(60, 101), slice(1, 1 + length))).notes  # the border has 400 pixels
    sentence = f"The mask bag.png lies on {share} of its border: leave a margin, or the item may look cut off."
    assert notes == (sentence,) * bool(share)


def test_a_corner_counts_once() -> None:
    region = square(101, slice(60, 101), slice(1, 20))
    region[100, 0] = True  # the 20th of 400
    assert cleaned(region).notes == ()


def test_a_frame_and_an_inverted_mask_are_told_apart() -> None:
    frame = ~square(100, slice(10, 90), slice(10, 90))
    found = cleaned(frame)
    np.testing.assert_array_equal(found.pixels[..., 0] > 0, frame)
    assert found.notes == (
        "The mask bag.png lies on 100% of its border: leave a margin, or the item may look cut off.",
    )
    inverted = "The mask bag.png is set on its whole border: masks are white on black, so invert it if it is not."
    assert cleaned(~disc(100, 20)).notes == (inverted,)
    assert cleaned(np.ones((100, 100), bool)).notes == (inverted,)


@pytest.mark.parametrize(
    ("side", "sentence"),
    [
        (19, "covers only 0.90% of its square: enlarge it, or the item will hardly show."),
        (20, ""),
        (189, ""),
        (190, "covers 90% of its square: leave a margin, or the item will lose its outline."),
    ],
)
def test_an_odd_size_is_warned_of(side: int, sentence: str) -> None:
    notes = cleaned(square(200, slice(5, 5 + side), slice(5, 5 + side))).notes
    assert notes == ((f"The mask bag.png {sentence}",) if sentence else ())


def test_a_kind_adds_notes_and_changes_no_pixel() -> None:
    data = encode_png(levels(garments(3)))
    plain = load_mask(data, "m", 128)
    assert plain.notes == ()
    for kind in ItemKind:
        loaded = load_mask(data, "m", 128, kind)
        np.testing.assert_array_equal(loaded.pixels, plain.pixels)
        assert loaded.notes == clean_mask(plain.pixels, "m", kind).notes != ()


def test_a_file_is_the_same_mask_in_process_and_on_the_server() -> None:
    dirty = levels(garments(3) | (np.random.default_rng(0).random((128, 128)) < 0.02))
    files = {"MASK_BAG": jpeg(dirty, 10), "MASK_SHOES": encode_png(dirty)}
    source = encode_png(np.full((128, 128, 3), 90, np.uint8))
    tensors = {name: np.array([[data]], np.object_) for name, data in {"SOURCE": source, **files}.items()}
    served = decode(tensors, list(files), 128)
    for name, data in files.items():
        here = load_mask(data, "mask", 128, ItemKind[name.removeprefix("MASK_")]).pixels
        assert served[name][0].tobytes() == here.tobytes()
        assert pieces(here[..., 0] > 0) == 3


def test_raw_tensors_are_taken_as_they_are() -> None:
    soft = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1), dtype=np.uint8)
    sent = {"SOURCE": np.zeros((1, 32, 32, 3), np.uint8), "MASK_BAG": soft}
    assert prepare(sent, ["MASK_BAG"])["MASK_BAG"].tobytes() == soft.tobytes()

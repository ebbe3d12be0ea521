"""Clothing Co-Parsing: a small set in the published layout, and the real one where it lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from skimage.morphology import dilation, disk

from outfitgan.config import DataConfig
from outfitgan.data.ccp import LABELS, MIN_PIXELS, CcpOutfits
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import RuleBased
from outfitgan.errors import ConfigError, DataError
from outfitgan.items import COLLOCATION_ORDER, ItemKind

REAL = Path(os.environ.get("OUTFITGAN_CCP", Path(__file__).parents[2].parent / "shared/data/ccp"))
needs_ccp = pytest.mark.skipif(
    not (REAL / "photos").is_dir(),
    reason="The Clothing Co-Parsing data set is not here: set OUTFITGAN_CCP to its folder.",
)
NAMES = ["null", "dress", *sorted({name for names in LABELS.values() for name in names})]
COLOURS = {
    "coat": (200, 30, 30),
    "t-shirt": (0, 0, 0),
    "bag": (30, 200, 30),
    "jeans": (30, 30, 200),
    "shoes": (90, 60, 30),
}
BOXES = {
    "coat": (slice(20, 120), slice(60, 140)),
    "t-shirt": (slice(40, 100), slice(90, 102)),  # in the coat's opening, and smaller
    "bag": (slice(100, 150), slice(20, 50)),
    "jeans": (slice(130, 260), slice(70, 130)),
    "shoes": (slice(270, 300), slice(60, 130)),
}
SPECK = (slice(5, 7), slice(5, 7))  # a stray patch labelled shoes


def publish(root: Path, count: int, without: str | None = None) -> Path:
    """Write `count` photos of coloured boxes; every fifth lacks a bag."""
    for folder in ("photos", "annotations/pixel-level"):
        (root / folder).mkdir(parents=True)
    cells = np.empty((1, len(NAMES)), object)
    cells[0, :] = NAMES
    savemat(root / "label_list.mat", {"label_list": cells})
    for number in range(count):
        labels, pixels = np.zeros((320, 200), np.uint8), np.full((320, 200, 3), 128, np.uint8)
        for name, box in [*BOXES.items(), ("shoes", SPECK)]:
            if (name == "bag" and number % 5 == 0) or name == without:
                continue
            labels[box], pixels[box] = NAMES.index(name), COLOURS[name]
        stem = f"{number:04d}"
        Image.fromarray(pixels).save(root / f"photos/{stem}.jpg", quality=95, subsampling=0)
        savemat(root / f"annotations/pixel-level/{stem}.mat", {"groundtruth": labels})
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("ccp"), 60)


def test_photos_with_all_four_kinds_are_split_by_name(small: Path) -> None:
    parts = {split: CcpOutfits(small, 32, split) for split in ("train", "test")}
    groups = {split: {part[i].group for i in range(len(part))} for split, part in parts.items()}
    assert not groups["train"] & groups["test"]
    assert groups["train"] | groups["test"] == {f"{n:04d}" for n in range(60) if n % 5}
    assert 0.7 < len(groups["train"]) / 48 < 0.97


def test_an_item_is_its_pixels_on_white_cropped_with_a_margin(small: Path) -> None:
    items = CcpOutfits(small, 64, "train")[0].items
    assert tuple(items) == COLLOCATION_ORDER
    chosen = {ItemKind.UPPER: "coat", ItemKind.BAG: "bag", ItemKind.LOWER: "jeans", ItemKind.SHOES: "shoes"}
    for kind, item in items.items():
        assert item.kind == kind
        box = BOXES[chosen[kind]]
        height, width = (part.stop - part.start for part in box)
        rows, columns = np.flatnonzero(item.mask.any(axis=1)), np.flatnonzero(item.mask.any(axis=0))
        scale = 64 * 0.86 / max(height, width)  # 7 % at each edge
        assert abs(len(rows) - height * scale) <= 1.5
        assert abs(len(columns) - width * scale) <= 1.5
        assert abs(rows[0] + rows[-1] - 63) <= 2
        middle = np.median(item.image[item.mask > 0], axis=0)
        assert np.abs(middle - COLOURS[chosen[kind]]).max() < 12
        assert (item.image[~(dilation(item.mask, disk(2)) > 0)] == 255).all()
    hole = items[ItemKind.UPPER].mask[28:36, 28:36]
    assert (hole == 0).any()  # the t-shirt is not part of the coat


def test_numbers_outside_the_source_are_refused(small: Path) -> None:
    source = CcpOutfits(small, 32, "test")
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source[index]


def test_photos_that_are_left_out_are_counted(small: Path) -> None:
    parts = [CcpOutfits(small, 32, split) for split in ("train", "test")]
    counts = [tuple(map(int, re.findall(r"\d+", part.notes[0])))[:2] for part in parts]
    assert [sum(column) for column in zip(*counts, strict=True)] == [12, 60]
    assert [whole - left_out for left_out, whole in counts] == [len(part) for part in parts]
    assert not isinstance(parts[0], RuleBased)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no photos: get the Clothing Co-Parsing data set from https://"):
        CcpOutfits(tmp_path / "nowhere", 32, "train")
    root = publish(tmp_path / "set", 10)
    with pytest.raises(ConfigError, match="no split 'all'"):
        CcpOutfits(root, 32, "all")
    assert len(open_outfits(DataConfig(name="ccp", root=str(root)), 32, "train", 0)) > 0
    name = CcpOutfits(root, 32, "train")[0].name
    (root / f"photos/{name}.jpg").unlink()
    with pytest.raises(DataError, match=rf"no photos/{name}\.jpg"):
        CcpOutfits(root, 32, "train")
    Image.new("RGB", (30, 30)).save(root / f"photos/{name}.jpg")
    with pytest.raises(DataError, match=f"{name} and its annotation differ in size"):
        CcpOutfits(root, 32, "train")[0]
    (root / f"photos/{name}.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=rf"Cannot read .*{name}\.jpg"):
        CcpOutfits(root, 32, "train")[0]
    (root / "label_list.mat").write_bytes(b"no matlab")
    with pytest.raises(DataError, match=r"Cannot read label_list from .*label_list\.mat"):
        CcpOutfits(root, 32, "train")
    (root / "label_list.mat").unlink()
    with pytest.raises(DataError, match=r"has no label_list\.mat"):
        CcpOutfits(root, 32, "train")


def test_a_set_without_bags_has_no_outfit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photo with all four kinds"):
        CcpOutfits(publish(tmp_path, 8, without="bag"), 32, "train")


@pytest.fixture(scope="module")
def real() -> dict[str, CcpOutfits]:
    return {split: CcpOutfits(REAL, 64, split) for split in ("train", "test")}


@needs_ccp
def test_the_real_set_gives_about_three_hundred_outfits(real: dict[str, CcpOutfits]) -> None:
    train, test = len(real["train"]), len(real["test"])
    assert 280 < train + test < 400
    assert 0.08 < test / (train + test) < 0.22


@needs_ccp
def test_real_items_are_cut_out_and_repeatable(real: dict[str, CcpOutfits]) -> None:
    for index in range(0, len(real["test"]), 4):
        outfit, again = real["test"][index], real["test"][index]
        assert tuple(outfit.items) == COLLOCATION_ORDER
        for kind, item in outfit.items.items():
            assert item.image.shape == (64, 64, 3)
            assert item.mask.shape == (64, 64)
            assert set(np.unique(item.mask)) == {0, 255}
            assert (item.image[~(dilation(item.mask, disk(3)) > 0)] == 255).all()
            np.testing.assert_array_equal(item.image, again.items[kind].image)


def test_a_minimum_is_set_for_every_kind() -> None:
    assert set(MIN_PIXELS) == set(LABELS) == set(ItemKind)
    names = [name for group in LABELS.values() for name in group]
    assert len(names) == len(set(names))

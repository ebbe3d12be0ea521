"""What `data inspect` says and draws, against counts made by other means."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.measure import label

from outfitgan.config import DataConfig
from outfitgan.data.inspect_data import inspect_data, look_at
from outfitgan.data.outlined_sheet import outlined_sheet
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import ConfigError, DataError
from outfitgan.items import COLLOCATION_ORDER, Item, ItemKind, Outfit

Make = Callable[..., Path]
OUTLINE = (226, 0, 116)


def inspected(config: DataConfig, output: Path, split: str = "train", count: int = 100) -> str:
    text = io.StringIO()
    inspect_data(config, 48, split, 0, count, output, Console(file=text, width=200, color_system=None))
    return text.getvalue()


def rows_of(text: str) -> dict[tuple[str, str], list[str]]:
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")
    ]
    return {(row[0], row[1]): row[2:] for row in cells}


def test_the_table_counts_what_is_there(tmp_path: Path) -> None:
    text = inspected(DataConfig(count=20), tmp_path / "sheet.png", count=15)
    rows = rows_of(text)
    assert list(rows) == [(split, kind.value) for split in ("train", "test") for kind in COLLOCATION_ORDER]
    for split in ("train", "test"):
        source = SyntheticOutfits(20, 48, 0, split)
        for kind in COLLOCATION_ORDER:
            masks = [source[index].items[kind].mask for index in range(15)]
            shares = sorted(np.count_nonzero(mask) / mask.size for mask in masks)
            parts = sum(label(mask, connectivity=2).max() > 1 for mask in masks) / 15
            expected = [f"{share:.1%}" for share in (shares[0], shares[7], shares[-1], parts)]
            assert rows[split, kind.value] == ["15", "15", *expected]
    assert "synthetic at 48x48: 20 outfits for train, 20 outfits for test" in text
    assert "photos seen in both splits: 0" in text


def test_equal_photos_are_seen(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", [*(f"train/{n}" for n in range(3)), *(f"test/{n}" for n in range(2))])
    for other in ("train/1", "test/0"):  # not the same file, which the source would keep apart: the same picture
        path = root / other / "bag.png"
        path.write_bytes((root / "train/0/bag.png").read_bytes() + other.encode())
    text = inspected(DataConfig(name="folder", root=str(root)), tmp_path / "sheet.png")
    rows = rows_of(text)
    assert rows["train", "bag"][:2] == ["3", "2"]
    assert rows["train", "shoes"][:2] == ["3", "3"]
    assert rows["test", "bag"][:2] == ["2", "2"]
    assert "photos seen in both splits: 1" in text


def test_notes_and_what_cannot_be_used_are_said(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", [f"train/{number}" for number in range(4)])
    (root / "train/1/bag.png").unlink()
    (root / "train/2/bag.png").write_bytes(b"no picture")
    text = inspected(DataConfig(name="folder", root=str(root)), tmp_path / "sheet.png")
    assert "3 outfits for train, 0 outfits for test" in text
    assert rows_of(text)["train", "bag"][0] == "2"
    assert "train: 1 of 4 folders lack one of the four kinds and are left out." in text
    assert re.search(r"train: .*train/2/bag\.png", text)
    assert re.search(r"test: .* holds no outfit for 'test'", text)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_a_split_with_nothing_to_draw_is_refused(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", ["train/0"])
    config, output = DataConfig(name="folder", root=str(root)), tmp_path / "sheet.png"
    with pytest.raises(DataError, match="holds no outfit for 'test'"):
        inspected(config, output, "test")
    (root / "train/0/upper.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train/0/upper\.png"):
        inspected(config, output)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        inspected(config, output, "dev")
    with pytest.raises(ConfigError, match=r"data\.root is empty"):
        inspected(DataConfig(name="ccp"), output)
    assert not output.exists()


def test_an_older_sheet_is_replaced_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "sheet"
    output.parent.mkdir()
    output.write_text("old")
    inspected(DataConfig(count=2), output)
    with Image.open(output) as sheet:
        assert sheet.width > 4 * 100
    assert [path.name for path in output.parent.iterdir()] == ["sheet"]
    shutil.rmtree(output.parent)


def test_patches_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:6, 2:6] = mask[6:9, 6:9] = 255
    seen = look_at(Item(ItemKind.BAG, np.zeros((20, 20, 3), np.uint8), mask))
    assert (seen.parts, seen.coverage) == (1, 25 / 400)
    mask[15:17, 2:4] = 255
    assert look_at(Item(ItemKind.BAG, np.zeros((20, 20, 3), np.uint8), mask)).parts == 2


@pytest.mark.parametrize("count", [1, 4, 5, 24])
def test_the_sheet_draws_every_item_with_a_line_around_its_mask(outfits: SyntheticOutfits, count: int) -> None:
    chosen = [outfits[index % len(outfits)] for index in range(count)]
    sheet = np.asarray(outlined_sheet(chosen, "title", "caption"))
    line = (sheet == OUTLINE).all(axis=2)
    outlines = label(binary_dilation(line, iterations=3))
    shoes = sum(label(outfit.items[ItemKind.SHOES].mask).max() for outfit in chosen)
    assert outlines.max() >= count * 3 + shoes // 2
    assert outlines.max() <= count * 3 + shoes + count * 2  # a bag's handle has a line inside as well
    columns = np.flatnonzero(line.any(axis=0))
    assert (columns.max() > 700) == (count > 4)  # two columns


def test_the_line_lies_outside_the_mask() -> None:
    mask = np.zeros((144, 144), np.uint8)
    mask[40:100, 50:90] = 255
    item = {kind: Item(kind, np.full((144, 144, 3), 7, np.uint8), mask) for kind in COLLOCATION_ORDER}
    sheet = np.asarray(outlined_sheet([Outfit("a", "a", item)], "", ""))
    line = (sheet == OUTLINE).all(axis=2)
    seen = np.argwhere(line)
    top, left = seen[:, 0].min(), seen[seen[:, 1] < 200][:, 1].min()
    tile = line[top - 38 : top - 38 + 144, left - 48 : left - 48 + 144]
    inside = mask > 0
    expected = binary_dilation(inside, np.ones((5, 5))) & ~inside
    np.testing.assert_array_equal(tile, expected)
    assert not binary_erosion(tile, np.ones((3, 3))).any()


def test_a_long_name_is_cut_short(outfits: SyntheticOutfits) -> None:
    outfit = outfits[0]
    long = Outfit("name " * 100, outfit.group, outfit.items)
    assert outlined_sheet([long], "t", "c").size == outlined_sheet([outfit], "t", "c").size
    cut = np.asarray(outlined_sheet([long], "t", "c"))
    assert (cut[-20:, -40:] == 255).all()

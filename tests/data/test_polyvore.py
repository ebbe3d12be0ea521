"""Polyvore Outfits: a small set in the published layout, and the real lists where they lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outfitgan.config import DataConfig
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import RuleBased
from outfitgan.data.polyvore import CATEGORIES, PolyvoreOutfits
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import ConfigError, DataError
from outfitgan.items import COLLOCATION_ORDER, ItemKind

REAL = Path(os.environ.get("OUTFITGAN_POLYVORE", Path(__file__).parents[2].parent / "shared/data/polyvore_outfits"))
needs_polyvore = pytest.mark.skipif(
    not (REAL / "nondisjoint/valid.json").is_file(),
    reason="Polyvore Outfits is not here: set OUTFITGAN_POLYVORE to its folder.",
)
Make = Callable[..., Path]


def names(root: Path, split: str) -> list[str]:
    source = PolyvoreOutfits(root, 32, split)
    return [source[index].name for index in range(len(source))]


def change(path: Path, changed: Callable[[Any], object]) -> None:
    path.write_text(json.dumps(changed(json.loads(path.read_text()))))


def wear(entries: list[dict[str, Any]], number: int, item: str, place: int) -> list[dict[str, Any]]:
    entries[number]["items"].append({"item_id": item, "index": place})
    return entries


def test_train_and_test_are_the_published_lists(make_polyvore: Make, outfits: SyntheticOutfits, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0, 1, 2, 3], "valid": [4, 5], "test": [6, 7]})
    assert names(root, "train") == ["7000", "7001", "7002", "7003"]
    assert names(root, "test") == ["7006", "7007"]
    assert names(root / "nondisjoint", "test") == ["7006", "7007"]
    source = open_outfits(DataConfig(name="polyvore", root=str(root)), 64, "train", 0)
    assert source.notes == ()
    assert not isinstance(source, RuleBased)
    for number in range(4):
        outfit, drawn = source[number], outfits[number]
        assert tuple(outfit.items) == COLLOCATION_ORDER
        assert outfit.group == outfit.name
        for kind, item in outfit.items.items():
            assert item.kind == kind
            assert np.abs(item.image.astype(int) - drawn.items[kind].image).mean() < 6
            mask, expected = item.mask > 0, drawn.items[kind].mask > 0
            assert (mask & expected).sum() / expected.sum() > 0.98


def test_a_variants_folder_is_read_where_it_is_named(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0, 1], "test": [2]}, variant="disjoint")
    assert names(root / "disjoint", "train") == ["7000", "7001"]
    with pytest.raises(DataError, match=r"no .*nondisjoint/train\.json"):
        PolyvoreOutfits(root, 32, "train")


def test_a_test_outfit_that_shares_an_item_with_training_is_left_out(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0, 1], "test": [2, 3, 4]})
    change(root / "nondisjoint/test.json", lambda entries: wear(entries, 1, "1002", 0))  # the bag of 0, before its own
    change(root / "nondisjoint/test.json", lambda entries: wear(entries, 2, "1012", 9))  # worn, but not its bag for us
    source = PolyvoreOutfits(root, 32, "test")
    assert [source[index].name for index in range(len(source))] == ["7002", "7004"]
    assert source.notes == ("1 of 3 test outfits share an item with training and are left out.",)
    assert names(root, "train") == ["7000", "7001"]


def test_the_first_item_of_a_kind_by_index_is_taken(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0, 1], "test": [2]})
    path = root / "nondisjoint/train.json"
    before = PolyvoreOutfits(root, 64, "train")[0]
    change(path, lambda entries: wear(entries, 0, "1012", 9))
    same = PolyvoreOutfits(root, 64, "train")[0]
    change(path, lambda entries: wear(entries, 0, "1013", 1))
    other = PolyvoreOutfits(root, 64, "train")[0]
    worn = PolyvoreOutfits(root, 64, "train")[1]
    np.testing.assert_array_equal(same.items[ItemKind.BAG].image, before.items[ItemKind.BAG].image)
    np.testing.assert_array_equal(other.items[ItemKind.UPPER].image, worn.items[ItemKind.UPPER].image)
    assert not np.array_equal(other.items[ItemKind.UPPER].image, before.items[ItemKind.UPPER].image)


def test_outerwear_is_an_upper_and_an_accessory_is_no_bag(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0, 1, 2], "test": [3]})
    metadata = root / "polyvore_item_metadata.json"
    change(metadata, lambda items: items | {"1003": {"semantic_category": "outerwear"}})
    change(metadata, lambda items: items | {"1012": {"semantic_category": "accessories"}})
    change(metadata, lambda items: items | {"1022": {"semantic_category": "all-body"}})
    assert names(root, "train") == ["7000"]


def test_without_any_bags_the_metadata_is_not_the_published_one(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0], "test": [1]})
    path = root / "polyvore_item_metadata.json"
    path.write_text(path.read_text().replace('"bags"', '"accessories"'))
    with pytest.raises(DataError, match="has no item of the category 'bags': get the published file"):
        PolyvoreOutfits(root, 32, "train")
    path.write_text(path.read_text().replace('"tops"', '"hats"'))
    with pytest.raises(DataError, match="category 'tops' or 'outerwear'"):
        PolyvoreOutfits(root, 32, "train")


def test_valid_alone_is_split_by_its_set_ids(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"valid": list(range(30))})
    parts = [names(root, split) for split in ("train", "test")]
    assert sorted(parts[0] + parts[1]) == [str(7000 + number) for number in range(30)]
    assert all(parts)
    (root / "nondisjoint/train.json").write_text("[]")
    with pytest.raises(DataError, match=r"no .*/test\.json"):
        PolyvoreOutfits(root, 32, "test")


def test_outfits_without_their_photos_are_left_out(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0, 1, 2], "test": [3]})
    (root / "images/1011.jpg").unlink()
    source = PolyvoreOutfits(root, 32, "train")
    assert [source[index].name for index in range(len(source))] == ["7000", "7002"]
    assert source.notes == ("1 of 3 outfits lack a photo and are left out.",)
    for photo in (root / "images").iterdir():
        photo.unlink()
    for _ in range(2):
        with pytest.raises(DataError, match=r"None of the 3 outfits for 'train' has its photos in .*images: get the"):
            PolyvoreOutfits(root, 32, "train")
        if (root / "images").exists():
            (root / "images").rmdir()


def test_a_photo_that_cannot_be_used_is_named(make_polyvore: Make, tmp_path: Path) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0], "test": [1]})
    (root / "images/1000.jpg").write_bytes(b"moved")
    source = PolyvoreOutfits(root, 32, "train")
    with pytest.raises(DataError, match=r"1000\.jpg"):
        source[0]
    for index in (-1, 1):
        with pytest.raises(IndexError):
            source[index]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("polyvore_item_metadata.json", None, r"no .*polyvore_item_metadata\.json: get Polyvore Outfits from https://"),
        ("polyvore_item_metadata.json", "{", "Cannot read"),
        ("polyvore_item_metadata.json", "[" * 100_000, "Cannot read"),
        ("polyvore_item_metadata.json", "[]", "not laid out as published"),
        ("polyvore_item_metadata.json", '{"1": "tops"}', "no item of the category"),
        ("polyvore_item_metadata.json", '{"1": {"semantic_category": []}}', "no item of the category"),
        ("nondisjoint/train.json", None, r"no .*train\.json: get"),
        ("nondisjoint/train.json", "\ud800", "Cannot read"),
        ("nondisjoint/train.json", "{}", "not laid out as published"),
        ("nondisjoint/train.json", "[1]", "not laid out as published"),
        ("nondisjoint/train.json", '[{"set_id": "1"}]', "not laid out as published"),
        ("nondisjoint/train.json", '[{"items": [], "set_id": []}, {"items": 3}]', "not laid out as published"),
        ("nondisjoint/train.json", '[{"set_id": "1", "items": [{"item_id": "1000"}]}]', "not laid out as published"),
        ("nondisjoint/train.json", '[{"set_id": "1", "items": [{"item_id": [], "index": 1}]}]', "not laid out"),
    ],
)
def test_what_is_not_as_published_is_named(
    make_polyvore: Make, tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    root = make_polyvore(tmp_path / "set", {"train": [0], "test": [1]})
    if content is None:
        (root / file).unlink()
    else:
        (root / file).write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(DataError, match=message) as caught:
        PolyvoreOutfits(root, 32, "train")
    assert "\n" not in str(caught.value)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no split 'valid'"):
        PolyvoreOutfits(tmp_path, 32, "valid")


@needs_polyvore
def test_the_real_metadata_at_hand_has_no_bags() -> None:
    categories = {
        entry["semantic_category"] for entry in json.loads((REAL / "polyvore_item_metadata.json").read_bytes()).values()
    }
    if "bags" in categories:
        pytest.skip("This is the published metadata, which has bags.")
    with pytest.raises(DataError, match="'bags'"):
        PolyvoreOutfits(REAL, 32, "train")


@needs_polyvore
def test_the_real_lists_are_split_without_a_shared_item(tmp_path: Path) -> None:
    """With made-up categories, since the real ones may be incomplete, and empty photos, which opening does not read."""
    if (REAL / "nondisjoint/train.json").exists():
        pytest.skip("This is the whole set; its published split is used.")
    entries = json.loads((REAL / "nondisjoint/valid.json").read_bytes())
    worn = sorted({item["item_id"] for entry in entries for item in entry["items"]})
    known = [*CATEGORIES, "hats"]
    category = {item: known[number % len(known)] for number, item in enumerate(worn)}
    (tmp_path / "nondisjoint").symlink_to(REAL / "nondisjoint")
    (tmp_path / "images").mkdir()
    for item in worn:
        (tmp_path / f"images/{item}.jpg").touch()
    described = {item: {"semantic_category": name} for item, name in category.items()}
    (tmp_path / "polyvore_item_metadata.json").write_text(json.dumps(described))
    kinds = [{CATEGORIES.get(category[item["item_id"]]) for item in entry["items"]} - {None} for entry in entries]
    complete = sum(len(found) == 4 for found in kinds)
    train, test = (PolyvoreOutfits(tmp_path, 32, split) for split in ("train", "test"))
    dropped = int(test.notes[0].split()[0]) if test.notes else 0
    assert len(train) + len(test) + dropped == complete > 200
    assert 0.08 < (len(test) + dropped) / complete < 0.22

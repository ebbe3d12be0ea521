"""Data sets in their published layouts, made of procedural outfits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.items import COLLOCATION_ORDER

CATEGORY = {"upper": "tops", "bag": "bags", "lower": "bottoms", "shoes": "shoes"}
Folder = Callable[..., Path]


@pytest.fixture(scope="session")
def outfits() -> SyntheticOutfits:
    return SyntheticOutfits(40, 64, 0, "train")


@pytest.fixture(scope="session")
def make_folder(outfits: SyntheticOutfits) -> Folder:
    """Write procedural outfits as one folder each: `names` are their paths, `ending` the photos' format."""

    def make(root: Path, names: Iterable[str], ending: str = "png") -> Path:
        for number, name in enumerate(names):
            (root / name).mkdir(parents=True)
            for kind, item in outfits[number].items.items():
                Image.fromarray(item.image).save(root / name / f"{kind}.{ending}", quality=90)
        return root

    return make


@pytest.fixture(scope="session")
def make_polyvore(outfits: SyntheticOutfits) -> Folder:
    """Write Polyvore Outfits: `lists` name, for each file of `variant`, which procedural outfits it holds."""

    def make(root: Path, lists: dict[str, list[int]], variant: str = "nondisjoint") -> Path:
        (root / "images").mkdir(parents=True)
        (root / variant).mkdir()
        metadata: dict[str, dict[str, str]] = {"900000": {"semantic_category": "sunglasses"}}
        for split, numbers in lists.items():
            entries = []
            for number in numbers:
                items = [{"item_id": "900000", "index": 1}]
                # Published lists are in no order of kinds.
                for place, kind in enumerate(reversed(COLLOCATION_ORDER)):
                    item = f"{100 + number}{place}"
                    metadata[item] = {"semantic_category": CATEGORY[kind]}
                    items.append({"item_id": item, "index": place + 2})
                    Image.fromarray(outfits[number].items[kind].image).save(root / f"images/{item}.jpg", quality=92)
                entries.append({"set_id": str(7000 + number), "items": items})
            (root / variant / f"{split}.json").write_text(json.dumps(entries))
        (root / "polyvore_item_metadata.json").write_text(json.dumps(metadata))
        return root

    return make


@pytest.fixture(scope="session")
def own(make_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten outfits of a person's own, to be copied before they are changed: 0 and 1 share a bag and are one group."""
    root = make_folder(tmp_path_factory.mktemp("own") / "set", [f"train/{number}" for number in range(10)])
    shutil.copy(root / "train/0/bag.png", root / "train/1/bag.png")
    return root

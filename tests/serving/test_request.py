"""Requests with generated masks, and what is written of them, over real engines in this process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_graphs import CHANNELS, expected_image

from outfitgan.config import ModelConfig
from outfitgan.errors import GraphError, InputError
from outfitgan.items import ItemKind
from outfitgan.model_graphs import contracts_of
from serving.generation import generate_here
from serving.in_process import OutfitPipeline
from serving.request import read_request

BAG, LOWER, SHOES = TARGETS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)
ROW = 276  # of the sheet

Builder = Callable[[ModelConfig, str], dict[str, Path]]


def opened_pipeline(model: ModelConfig, folders: dict[str, Path]) -> OutfitPipeline:
    return OutfitPipeline(contracts_of(model, folders), folders, threads=1)


@pytest.fixture(scope="module")
def pipeline(model: ModelConfig, engines: dict[str, dict[str, Path]]) -> Iterator[OutfitPipeline]:
    """With mask generators."""
    with opened_pipeline(model, engines["onnxruntime"]) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(model: ModelConfig, engines: dict[str, dict[str, Path]]) -> Iterator[OutfitPipeline]:
    """The same run before its mask generators were trained."""
    folders = {name: path for name, path in engines["onnxruntime"].items() if not name.startswith("mask_generator")}
    with opened_pipeline(model, folders) as opened:
        yield opened


@pytest.fixture
def photo(silhouettes: np.ndarray, tmp_path: Path) -> Path:
    return saved(silhouettes, tmp_path / "photo.png")


def saved(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def rectangle(kind: ItemKind) -> np.ndarray:
    """The silhouette in the channel of `kind`, without the speck and the pinhole."""
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[12 + 2 * CHANNELS[kind] : 52, 16:48] = 255
    return mask


def test_all_masks_are_generated_where_none_is_given(pipeline: OutfitPipeline, photo: Path) -> None:
    request = read_request(photo, {}, [], pipeline)
    assert list(request.masks) == list(TARGETS)
    for kind, mask in request.masks.items():
        assert mask.generated
        np.testing.assert_array_equal(mask.pixels, rectangle(kind))
    told = [note for note in request.notes if "was generated from" in note]
    assert told == [f"The mask of {kind} was generated from {photo}." for kind in TARGETS]
    assert list(read_request(photo, {}, [SHOES], pipeline).masks) == [SHOES]


def test_files_and_generated_masks_go_together(pipeline: OutfitPipeline, photo: Path, tmp_path: Path) -> None:
    own = np.zeros((64, 64), np.uint8)
    own[5:60, 5:60] = 255
    masks = {LOWER: saved(own, tmp_path / "mine.png"), BAG: None}
    request = read_request(photo, masks, [], pipeline)
    assert [(kind, mask.generated) for kind, mask in request.masks.items()] == [(LOWER, False), (BAG, True)]
    np.testing.assert_array_equal(request.masks[LOWER].pixels[..., 0], own)
    assert request.masks[LOWER].file == (tmp_path / "mine.png").read_bytes()
    assert list(read_request(photo, masks, [BAG], pipeline).masks) == [BAG]


def test_an_empty_generated_mask_leaves_its_item_out(
    pipeline: OutfitPipeline, silhouettes: np.ndarray, tmp_path: Path
) -> None:
    blank = silhouettes.copy()
    blank[..., CHANNELS[LOWER]] = 127  # one level short of garment
    request = read_request(saved(blank, tmp_path / "photo.png"), {}, [], pipeline)
    assert list(request.masks) == [BAG, SHOES]
    assert "The mask generated for lower is empty: lower is left out; give --mask lower=FILE for it." in request.notes
    path = saved(np.full_like(silhouettes, 127), tmp_path / "grey.png")
    with pytest.raises(InputError, match=r"^Every mask generated from .*grey\.png is empty: .*--mask bag=FILE\.$"):
        read_request(path, {}, [], pipeline)


def test_a_generated_mask_in_pieces_is_warned_of(
    pipeline: OutfitPipeline, silhouettes: np.ndarray, tmp_path: Path
) -> None:
    split = silhouettes.copy()
    split[:, 30:34] = 0
    notes = read_request(saved(split, tmp_path / "photo.png"), {}, [], pipeline).notes
    warned = [note for note in notes if "pieces" in note]
    assert len(warned) == 2  # a pair of shoes is two
    assert warned[0].startswith("The mask generated for bag is in 2 pieces where bag may have 1: ")
    assert warned[1].startswith("The mask generated for lower is in 2 pieces where lower may have 1: ")


@pytest.mark.parametrize(
    ("masks", "only", "message"),
    [
        ({}, [], r"^No mask was given and there are no mask generators here: add --mask KIND=FILE .*train-masks"),
        ({BAG: None}, [], r"^There is no mask generator for bag here: give --mask bag=FILE, or .*train-masks"),
        ({BAG: None}, [SHOES], r"^There is no mask for shoes; add --mask shoes=FILE"),
        ({ItemKind.UPPER: None}, [], r"^Made here are bag, lower, shoes, not upper"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    plain: OutfitPipeline, photo: Path, masks: dict[ItemKind, Path | None], only: list[ItemKind], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_request(photo, masks, only, plain)


def test_generated_masks_are_written_beside_the_items(
    pipeline: OutfitPipeline, photo: Path, silhouettes: np.ndarray, tmp_path: Path
) -> None:
    own = saved(rectangle(SHOES)[..., 0], tmp_path / "shoes.png")
    request = read_request(photo, {BAG: None, SHOES: own}, [], pipeline)
    result = generate_here(pipeline, request, tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"bag.png", "bag_mask.png", "shoes.png", "outfit.png", "result.json"}
    assert result == json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["generated_masks"], result["compatibility"]) == ({"bag": "bag_mask.png"}, None)
    mask = np.asarray(Image.open(tmp_path / "out" / "bag_mask.png"))[..., None]
    np.testing.assert_array_equal(mask, rectangle(BAG))
    bag = np.asarray(Image.open(tmp_path / "out" / "bag.png"))
    np.testing.assert_array_equal(bag, expected_image(BAG, silhouettes, mask))
    generate_here(pipeline, request, tmp_path / "out")  # an outfit with its masks is ours to replace


def test_without_sams_the_sheet_says_nothing_of_where_parts_were_taken(
    model: ModelConfig, build: Builder, pipeline: OutfitPipeline, photo: Path, tmp_path: Path
) -> None:
    baseline = dataclasses.replace(model, generator=dataclasses.replace(model.generator, architecture="pix2pix"))
    with opened_pipeline(baseline, build(baseline, "onnxruntime")) as without:
        assert (without.aligned_kinds(), pipeline.aligned_kinds()) == ((), TARGETS)
        heights = []
        for place, name in ((pipeline, "with"), (without, "without")):
            result = generate_here(place, read_request(photo, {}, [], place), tmp_path / name)
            heights.append(Image.open(tmp_path / name / "outfit.png").height)
            assert result["compatibility"] is not None
    assert heights[0] - heights[1] == ROW
    for kind in TARGETS:
        assert (tmp_path / "with" / f"{kind}.png").read_bytes() == (tmp_path / "without" / f"{kind}.png").read_bytes()


def test_a_pipeline_takes_the_engines_of_its_model_and_no_others(
    model: ModelConfig, engines: dict[str, dict[str, Path]]
) -> None:
    folders = engines["onnxruntime"]
    with pytest.raises(GraphError, match="generator_bag is missing"):
        opened_pipeline(model, {name: path for name, path in folders.items() if name != "generator_bag"})
    shared = dataclasses.replace(model, generator=dataclasses.replace(model.generator, architecture="shared"))
    with pytest.raises(GraphError, match="no graph called generator_bag, generator_lower, generator_shoes"):
        opened_pipeline(shared, folders)

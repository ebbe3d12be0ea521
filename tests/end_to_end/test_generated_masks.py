"""A run of the shared architecture with its mask generators, made by the command line: one photo in, no masks."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from export.modules import run_module, run_modules
from outfitgan.config import load_preset, override, save_config
from outfitgan.images import load_image
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.masks import clean_mask
from outfitgan.model_graphs import contracts_of
from outfitgan.training.runs import Run
from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators
from serving.client.outfit_client import OutfitClient

Verb = Callable[..., subprocess.CompletedProcess[str]]
Serving = Callable[..., AbstractContextManager[dict[str, str]]]

TARGETS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)
SIZE = 64
CHANGES = {
    "model.generator.architecture": "shared",
    "training.collocation_steps": 2,
    "training.steps": 2,
    "training.mask_steps": 3,
    "training.mask_batch": 2,
}


@pytest.fixture(scope="module")
def run_with_masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    save_config(override(load_preset("tiny"), CHANGES), folder / "shared.toml")
    run = folder / "run"
    for verb, *options in (
        ["train", "--config", str(folder / "shared.toml")],
        ["train-masks"],
        ["export", "--precision", "fp32"],
        ["build"],
        ["assemble"],
    ):
        done = CliRunner().invoke(app, [verb, "--run", str(run), *options])  # in this process: torch is loaded once
        assert done.exit_code == 0, (done.output, done.exception)
    return run


@pytest.fixture(scope="module")
def urls(run_with_masks: Path, serving: Serving) -> Iterator[dict[str, str]]:
    with serving(run_with_masks / "repository", signal.SIGINT) as urls:
        yield urls


def read(output: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return every picture of a folder but the sheet, and what result.json says."""
    result = json.loads((output / "result.json").read_text())
    assert {path.name for path in output.iterdir()} == {
        "outfit.png", "result.json", *result["items"].values(), *result["generated_masks"].values()
    }  # fmt: skip
    pictures = {path.stem: np.asarray(Image.open(path)) for path in output.glob("*.png") if path.stem != "outfit"}
    return pictures, result


def test_a_run_has_one_generator_and_its_mask_generators(run_with_masks: Path) -> None:
    graphs = {path.name.split(".")[0] for path in (run_with_masks / "graphs").glob("*.onnx")}
    roles = {f"{role}_{kind}" for role in ("alignment", "mask_generator") for kind in TARGETS}
    assert graphs == {"generator_outfit", "collocation"} | roles
    assert Run.open(run_with_masks).step("masks") == CHANGES["training.mask_steps"]


def test_one_photo_gives_what_torch_gives(here: Verb, run_with_masks: Path, example: Path, tmp_path: Path) -> None:
    done = here("generate", "--run", run_with_masks, "--source", example / "upper.png", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    pictures, result = read(tmp_path / "out")
    kinds = [ItemKind(kind) for kind in result["items"]]
    assert kinds, "every generated mask came out empty: train the mask generators differently"
    for kind in kinds:
        assert f"note: The mask of {kind} was generated from {example}/upper.png.\n" in done.stderr
    run = Run.open(run_with_masks)
    modules = run_modules(load_generator(run), load_classifier(run), load_mask_generators(run))
    contracts = contracts_of(run.config.model, modules)
    feeds = {"SOURCE": load_image((example / "upper.png").read_bytes(), "upper.png", SIZE).pixels[None]}
    for kind in TARGETS:
        name = f"mask_generator_{kind}"
        soft = run_module(modules[name], contracts[name], feeds)["MASK"][0]
        feeds[f"MASK_{kind.name}"] = clean_mask(soft, kind).pixels[None] if kind in kinds else soft[None] * 0
    made = run_module(modules["generator_outfit"], contracts["generator_outfit"], {
        spec.name: feeds[spec.name] for spec in contracts["generator_outfit"].inputs
    })  # fmt: skip
    for kind in kinds:
        # A silhouette's edge may fall either way between torch and an engine: a pixel of it, and what it bears on.
        assert (pictures[f"{kind}_mask"] != feeds[f"MASK_{kind.name}"][0, ..., 0]).mean() < 1e-3
        assert np.abs(pictures[kind].astype(int) - made[kind.name][0]).mean() < 0.5
    if len(kinds) == len(TARGETS):
        outfit = {kind.name: made[kind.name] if kind in TARGETS else feeds["SOURCE"] for kind in COLLOCATION_ORDER}
        expected = run_module(modules["collocation"], contracts["collocation"], outfit)["COMPATIBILITY"]
        assert result["compatibility"] == pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.server
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_server_makes_the_same(
    here: Verb, run_with_masks: Path, urls: dict[str, str], example: Path, tmp_path: Path, protocol: str
) -> None:
    options = ["--source", example / "upper.png", "--mask", "bag=auto", "--mask", f"shoes={example}/shoes_mask.png"]
    there = ["--server", urls[protocol], "--protocol", protocol]
    answers = []
    for place, name in ((["--run", run_with_masks], "here"), (there, "served")):
        done = here("generate", *options, *place, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
        answers.append((*read(tmp_path / name), done.stderr))
    (mine, result, notes), (theirs, other, told) = answers
    assert notes == told
    assert list(mine) == list(theirs)
    assert result["generated_masks"] == other["generated_masks"] == {"bag": "bag_mask.png"}
    for name, picture in mine.items():
        assert np.abs(picture.astype(int) - theirs[name]).max() <= 1, name


@pytest.mark.server
def test_the_ensemble_from_source_makes_what_the_command_line_does(
    here: Verb, run_with_masks: Path, urls: dict[str, str], example: Path, tmp_path: Path
) -> None:
    done = here("generate", "--run", run_with_masks, "--source", example / "upper.png", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    pictures, result = read(tmp_path / "out")
    kinds = [ItemKind(kind) for kind in result["items"]]
    with OutfitClient(urls["grpc"]) as client:
        made = client.generate_from_source((example / "upper.png").read_bytes(), kinds)
    for kind in kinds:
        np.testing.assert_array_equal(made.masks[kind][..., 0], pictures[f"{kind}_mask"])
        assert np.abs(made.images[kind].astype(int) - pictures[kind]).max() <= 1
    assert made.compatibility == pytest.approx(result["compatibility"], abs=1e-4)


def test_a_run_without_mask_generators_asks_for_masks(here: Verb, run: Path, example: Path, tmp_path: Path) -> None:
    options = ["--run", run, "--source", example / "upper.png", "--output", tmp_path / "out"]
    for masks, message in (
        ([], "error: No mask was given and there are no mask generators here: add --mask KIND=FILE"),
        (["--mask", "bag=auto"], "error: There is no mask generator for bag here: give --mask bag=FILE"),
    ):
        done = here("generate", *options, *masks)
        assert done.returncode == 2
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

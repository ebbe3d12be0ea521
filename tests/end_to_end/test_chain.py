"""From training to a served outfit: every stage's output is what the next one needs, and no hop changes a picture."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from export.boundary import CollocationGraph
from export.modules import generator_modules, run_module
from outfitgan.data.ccp import CcpOutfits
from outfitgan.images import load_image, load_mask
from outfitgan.items import COLLOCATION_ORDER, ItemKind, targets_of
from outfitgan.model_graphs import item_graphs
from outfitgan.training.runs import Run
from outfitgan.training.trained_networks import load_classifier, load_generator
from serving.client.outfit_client import OutfitClient

Verb = Callable[..., subprocess.CompletedProcess[str]]
Serving = Callable[..., AbstractContextManager[dict[str, str]]]

CCP = Path(os.environ.get("OUTFITGAN_CCP") or Path(__file__).parents[3] / "shared" / "data" / "ccp")
SIZE = 64
PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])


@dataclass(frozen=True)
class Made:
    """What `generate` wrote."""

    items: dict[ItemKind, NDArray[np.uint8]]
    sheet: NDArray[np.uint8]
    compatibility: float | None


@pytest.fixture(scope="module")
def here_made(succeed: Verb, run: Path, example: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The example's outfit, generated in process with the OpenVINO engines."""
    output = tmp_path_factory.mktemp("made") / "here"
    done = succeed("generate", "--run", run, *request(example), "--output", output)
    assert done.stderr == ""
    return read_made(output, done.stdout)


@pytest.fixture(scope="module")
def shoes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose source item is a pair of shoes, of another image size, for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("shoes") / "run"
    few = ["--source", "shoes", "--image-size", "32", "--collocation-steps", "2", "--steps", "2"]
    for verb, *options in (
        ["train", "--preset", "tiny", *few],
        ["export", "--precision", "fp32"],
        ["build", "--runtime", "onnxruntime"],
        ["assemble", "--runtime", "onnxruntime"],
    ):
        done = CliRunner().invoke(app, [verb, "--run", str(folder), *options])  # in this process: torch is loaded once
        assert done.exit_code == 0, (done.output, done.exception)
    return folder


def request(folder: Path, source: ItemKind = ItemKind.UPPER, end: str = "png") -> list[str]:
    """The options of a whole outfit from a folder of <kind>.<end> and <kind>_mask.png."""
    masks = [part for kind in targets_of(source) for part in ("--mask", f"{kind}={folder / f'{kind}_mask.png'}")]
    return ["--source", str(folder / f"{source}.{end}"), *masks]


def read_made(output: Path, said: str, size: int = SIZE) -> Made:
    """Read `generate`'s folder; everything in it must agree with the rest and with what was said."""
    result = json.loads((output / "result.json").read_text())
    assert set(result) == {"source", "items", "generated_masks", "compatibility", "seconds"}
    assert result["generated_masks"] == {}
    kinds = [kind for kind in COLLOCATION_ORDER if kind in result["items"]]
    assert result["items"] == {kind: f"{kind}.png" for kind in kinds}
    assert {path.name for path in output.iterdir()} == {"outfit.png", "result.json", *result["items"].values()}
    assert not list(output.parent.glob("*.partial"))
    assert result["seconds"] > 0
    score = result["compatibility"]
    tail = "" if score is None else f" Compatibility {score:.2f}."
    assert said == f"Made {', '.join(kinds)} in {result['seconds']} s.{tail} Look at {output}/outfit.png.\n"
    items = {kind: np.asarray(Image.open(output / f"{kind}.png")) for kind in kinds}
    assert all(item.shape == (size, size, 3) and item.std() > 1 for item in items.values())
    return Made(items, np.asarray(Image.open(output / "outfit.png")), score)


def assert_same(made: Made, other: Made) -> None:
    assert list(made.items) == list(other.items)
    for kind, item in made.items.items():
        assert np.abs(item.astype(int) - other.items[kind]).max() <= 1, kind
    assert made.compatibility == pytest.approx(other.compatibility, abs=1e-4)


def assert_torch_makes_it(run: Path, folder: Path, source: ItemKind, end: str, made: Made, size: int = SIZE) -> None:
    """`made` is what the trained networks make of the files, without any graph, engine or command line."""
    opened = Run.open(run)
    path = folder / f"{source}.{end}"
    image = load_image(path.read_bytes(), path.name, size).pixels[None]
    outfit, modules = {source: image}, generator_modules(load_generator(opened))
    for item_graph in item_graphs(opened.config.model):
        feeds = {"SOURCE": image}
        for name, kind in item_graph.masks.items():
            mask = folder / f"{kind}_mask.png"
            feeds[name] = load_mask(mask.read_bytes(), mask.name, size).pixels[None]
        found = run_module(modules[item_graph.contract.name], item_graph.contract, feeds)
        outfit |= {kind: found[name] for name, kind in item_graph.images.items()}
    with torch.inference_mode():
        images = (torch.from_numpy(outfit[kind]) for kind in COLLOCATION_ORDER)
        score = CollocationGraph(load_classifier(opened))(*images)
    items = {kind: outfit[kind][0] for kind in COLLOCATION_ORDER if kind != source}
    assert_same(made, Made(items, made.sheet, float(score)))


def test_an_outfit_is_what_torch_makes(run: Path, example: Path, here_made: Made) -> None:
    assert_torch_makes_it(run, example, ItemKind.UPPER, "png", here_made)


def test_the_sheet_shows_the_outfit(example: Path, here_made: Made) -> None:
    row = [np.asarray(Image.open(example / "upper.png")), *here_made.items.values()]
    for column, picture in enumerate(row):
        shown = np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.LANCZOS))
        y, x = 84 + 276, 180 + 276 * column  # the second row of three: under the masks, over the correspondences
        tile = here_made.sheet[y : y + 256, x : x + 256]
        assert np.array_equal(tile[1:-1, 1:-1], shown[1:-1, 1:-1])
    assert here_made.sheet.shape == (84 + 3 * 276 + 8, 180 + 4 * 276, 3)


def test_both_cpu_targets_make_the_same(
    succeed: Verb, run: Path, example: Path, here_made: Made, tmp_path: Path
) -> None:
    options = ["--run", run, "--runtime", "onnxruntime", "--output", tmp_path / "out"]
    done = succeed("generate", *request(example), *options)
    assert_same(read_made(tmp_path / "out", done.stdout), here_made)


@pytest.mark.server
@PROTOCOLS
def test_the_server_makes_the_same(
    succeed: Verb, served: dict[str, str], example: Path, here_made: Made, tmp_path: Path, protocol: str
) -> None:
    options = ["--server", served[protocol], "--protocol", protocol, "--output", tmp_path / "out"]
    done = succeed("generate", *request(example), *options)
    made = read_made(tmp_path / "out", done.stdout)
    assert_same(made, here_made)
    assert np.abs(made.sheet.astype(int) - here_made.sheet).mean() < 1


@pytest.mark.server
@PROTOCOLS
def test_shoes_alone_run_one_generator(
    succeed: Verb, served: dict[str, str], example: Path, here_made: Made, tmp_path: Path, protocol: str
) -> None:
    options = ["--server", served[protocol], "--protocol", protocol, "--output", tmp_path / "out"]
    mask = f"shoes={example / 'shoes_mask.png'}"
    with OutfitClient(served[protocol], protocol) as client:
        before = settled_statistics(client)
        done = succeed("generate", "--source", example / "upper.png", "--mask", mask, "--only", "shoes", *options)
        after = settled_statistics(client)
    ran = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    ensemble = {"outfit_encoded": 1, "decode": 1, "generator_shoes": 1, "encode": 1}
    assert ran == ensemble | {"alignment_shoes": 1}  # which draws the sheet's last row
    made = read_made(tmp_path / "out", done.stdout)
    assert made.compatibility is None
    assert_same(made, Made({ItemKind.SHOES: here_made.items[ItemKind.SHOES]}, made.sheet, None))


def settled_statistics(client: OutfitClient) -> dict[str, int]:
    """Read the statistics until they rest: the server counts an inference after it has sent its answer."""
    seen: dict[str, int] = {}
    while (now := client.statistics()) != seen:
        seen = now
        time.sleep(0.3)
    return now


@pytest.mark.server
@pytest.mark.skipif(
    not CCP.is_dir(),
    reason="The Clothing Co-Parsing data set is not here; set OUTFITGAN_CCP to its folder to test with a real photo.",
)
def test_a_real_garment(here: Verb, run: Path, served: dict[str, str], tmp_path: Path) -> None:
    outfit = CcpOutfits(CCP, 300, "test")[0]
    for kind, item in outfit.items.items():
        end = "jpg" if kind == ItemKind.UPPER else "png"
        Image.fromarray(item.image).save(tmp_path / f"{kind}.{end}")
        Image.fromarray(item.mask).save(tmp_path / f"{kind}_mask.png")
    options = request(tmp_path, end="jpg")
    made = {}
    for place, where in (("--run", str(run)), ("--server", served["grpc"])):
        output = tmp_path / "made" / place.strip("-")
        done = here("generate", *options, place, where, "--output", output)
        assert done.returncode == 0
        resized = [
            f"note: The mask {tmp_path}/{kind}_mask.png is 300x300: resized" for kind in targets_of(ItemKind.UPPER)
        ]
        assert all(sentence in done.stderr for sentence in resized)
        made[place] = read_made(output, done.stdout)
    assert_same(made["--server"], made["--run"])
    assert_torch_makes_it(run, tmp_path, ItemKind.UPPER, "jpg", made["--run"])


def test_build_does_not_build_twice(here: Verb, run: Path) -> None:
    for runtime in ("openvino", "onnxruntime"):
        before = snapshot(run / "engines")
        assert sum(runtime in str(path) for path in before if path.name == "manifest.json") == 7
        assert here("build", "--run", run, "--runtime", runtime).returncode == 0
        assert snapshot(run / "engines") == before


def test_training_into_a_run_is_refused(here: Verb, run: Path) -> None:
    before = snapshot(run)
    done = here("train", "--run", run, "--preset", "tiny")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .* already holds a run; continue it with --resume, .*\n", done.stderr)
    assert snapshot(run) == before


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


@pytest.mark.server
def test_another_source_item_with_another_target_until_sigterm(
    here: Verb, serving: Serving, shoes_run: Path, tmp_path: Path
) -> None:
    here("data", "write", "--output", tmp_path / "examples", "--count", 1, "--size", 32)
    example = tmp_path / "examples" / "000"
    options = request(example, ItemKind.SHOES)
    done = here("generate", *options, "--run", shoes_run, "--runtime", "onnxruntime", "--output", tmp_path / "here")
    made = read_made(tmp_path / "here", done.stdout, 32)
    assert list(made.items) == [ItemKind.UPPER, ItemKind.BAG, ItemKind.LOWER]
    assert_torch_makes_it(shoes_run, example, ItemKind.SHOES, "png", made, 32)
    with serving(shoes_run / "repository", signal.SIGTERM) as urls:
        done = here("generate", *options, "--server", urls["grpc"], "--output", tmp_path / "served")
        assert_same(read_made(tmp_path / "served", done.stdout, 32), made)
    for place in ("here", "served"):
        assert json.loads((tmp_path / place / "result.json").read_text())["source"] == "shoes"

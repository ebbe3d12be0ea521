"""INT8 by the command line: exported with a run's own outfits, built for both CPU runtimes, generated, served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines.manifest import read_manifest
from export.parity import psnr
from outfitgan.items import ItemKind, targets_of
from outfitgan.run_folder import RunFolder
from outfitgan.training.runs import Run
from serving.complete_run import complete_run
from serving.run_pipeline import run_engines

Verb = Callable[..., subprocess.CompletedProcess[str]]
Serving = Callable[..., AbstractContextManager[dict[str, str]]]
Items = dict[ItemKind, NDArray[np.uint8]]

KINDS = targets_of(ItemKind.UPPER)
BENCH = Path(__file__).parents[2] / "bench" / "run.py"


def request(folder: Path) -> list[str]:
    masks = [part for kind in KINDS for part in ("--mask", f"{kind}={folder / f'{kind}_mask.png'}")]
    return ["--source", str(folder / "upper.png"), *masks]


def items(folder: Path) -> Items:
    return {kind: np.asarray(Image.open(folder / f"{kind}.png")) for kind in KINDS}


def test_generators_alone_are_int8(measured_run: Path) -> None:
    for runtime in ("openvino", "onnxruntime"):
        found = run_engines(RunFolder(measured_run), runtime, "int8")
        precisions = {name: read_manifest(folder).precision for name, folder in found.items()}
        assert precisions == {name: "int8" if name.startswith("generator_") else "fp32" for name in found}
    sidecar = json.loads((measured_run / "graphs" / "generator_bag.int8.json").read_text())
    assert sidecar["calibration"]["count"] == 16


def test_int8_engines_make_nearly_the_same_outfit(
    succeed: Verb, measured_run: Path, example: Path, tmp_path: Path
) -> None:
    made: dict[str, Items] = {}
    for runtime, precision in (("openvino", "fp32"), ("openvino", "int8"), ("onnxruntime", "int8")):
        output = tmp_path / f"{runtime}-{precision}"
        options = ["--run", measured_run, "--runtime", runtime, "--precision", precision, "--output", output]
        succeed("generate", *request(example), *options)
        made[output.name] = items(output)
    exact = made.pop("openvino-fp32")
    for name, outfit in made.items():
        for kind in KINDS:
            assert 33 < psnr(exact[kind], outfit[kind]) < 70, (name, kind)


@pytest.mark.server
def test_a_server_runs_int8_engines(
    succeed: Verb, serving: Serving, measured_run: Path, example: Path, tmp_path: Path
) -> None:
    repository, here, there = tmp_path / "repository", tmp_path / "here", tmp_path / "there"
    engines = ["--run", measured_run, "--runtime", "openvino", "--precision", "int8"]
    succeed("assemble", *engines, "--output", repository)
    succeed("generate", *request(example), *engines, "--output", here)
    with serving(repository, signal.SIGTERM) as urls:
        succeed("generate", *request(example), "--server", urls["grpc"], "--wait", 60, "--output", there)
    for kind, item in items(here).items():
        assert np.abs(items(there)[kind].astype(int) - item).max() <= 1, kind


def test_the_benchmark_has_int8_rows(measured_run: Path, tmp_path: Path) -> None:
    chosen = ["--row", "openvino-int8", "--row", "onnxruntime-int8", "--requests", "2", "--repeats", "1"]
    command = [
        sys.executable,
        str(BENCH),
        "--run",
        str(measured_run),
        *chosen,
        "--output",
        str(tmp_path / "bench.json"),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=400, cwd=BENCH.parents[1])
    assert done.returncode == 0, done.stderr
    assert "exporting" not in done.stdout
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["title"] for row in rows.values()] == ["openvino int8", "onnxruntime int8"]
    for row in rows.values():
        assert 33 < row["psnr_db"] < 70
        assert row["p50_ms"] > 0


def test_what_int8_costs_and_gains_is_a_table(measured_run: Path) -> None:
    few = ["--count", "2", "--repeats", "2"]
    command = [sys.executable, str(BENCH.with_name("int8.py")), "--run", str(measured_run), *few]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=400, cwd=BENCH.parents[1])
    assert done.returncode == 0, done.stderr
    header, _, *lines = done.stdout.splitlines()
    assert header.startswith("| runtime | items | PSNR dB: mean | worst | SSIM: mean | worst | ms fp32 |")
    assert [line.split(" | ")[:2] for line in lines] == [["| openvino", "6"], ["| onnxruntime", "6"]]
    for line in lines:
        mean, worst, similar, least, fp32, int8, ratio = map(float, line.split(" | ")[2:9])
        assert 33 < worst <= mean < 70
        assert 0.9 < least <= similar < 1
        assert ratio == pytest.approx(fp32 / int8, abs=0.1 * ratio)


def test_a_run_of_few_outfits_is_measured_without_int8(run_copy: Path) -> None:
    config = run_copy / "config.toml"
    assert "\ncount = 48\n" in config.read_text()
    config.write_text(config.read_text().replace("\ncount = 48\n", "\ncount = 19\n"))
    absent = complete_run(
        Run.open(run_copy), 1, lambda _: None, [("openvino", "int8"), ("onnxruntime", "fp32")], ["fp32"]
    )
    assert set(absent) == {("openvino", "int8")}
    assert absent["openvino", "int8"].startswith("This run has 19 training outfits, 4 of which check an INT8 graph")


@pytest.mark.parametrize(
    ("verb", "options", "says"),
    [
        ("export", ["--precision", "int8", "--calibrate", 45], "4 of which check an INT8 graph: calibrate on 1 to 44"),
        ("export", ["--calibrate", 4], "--calibrate is for an INT8 export; say --precision int8 too, or leave it out."),
        ("export", ["--precision", "int4"], "There is no graph precision int4; choose from fp32, fp16, int8"),
        ("build", ["--precision", "int8"], "There is no finished int8 export in .*; export the run first."),
        ("assemble", ["--precision", "int8"], "There is no finished int8 export in .*; export the run first."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    here: Verb, run_copy: Path, verb: str, options: list[object], says: str
) -> None:
    files = sorted(run_copy.rglob("*"))
    done = here(verb, "--run", run_copy, *options)
    assert (done.returncode, done.stdout) == (2, "")
    *bars, sentence = done.stderr.splitlines()
    assert all("0/?" in bar for bar in bars), bars
    assert sentence.startswith("error: ")
    assert re.search(says, sentence), sentence
    assert sorted(run_copy.rglob("*")) == files

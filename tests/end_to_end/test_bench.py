"""The benchmark and the parity table, over a run of the command line's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.subject import parameter_count, untrained_run
from outfitgan.config import load_preset
from outfitgan.errors import RunError
from outfitgan.networks.generator import Generator
from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators
from outfitgan.training.untrained import save_untrained_masks

Verb = Callable[..., subprocess.CompletedProcess[str]]

BENCH = Path(__file__).parents[2] / "bench" / "run.py"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=400, cwd=BENCH.parents[1])


@pytest.mark.server
def test_the_benchmark_measures_each_row_and_its_parity(run_copy: Path, tmp_path: Path) -> None:
    rows = {
        "torch": "engine, 1 item",
        "openvino": "engine, 1 item",
        "outfit": "process, 3 items",
        "served-grpc": "client, 3 items",
    }
    chosen = [part for row in rows for part in ("--row", row)]
    output = tmp_path / "figures" / "bench.json"
    done = bench("--run", run_copy, *chosen, "--requests", 2, "--repeats", 1, "--output", output)
    assert done.returncode == 0, done.stderr
    assert f"Wrote {output}." in done.stdout
    found = json.loads(output.read_text())
    assert (found["facts"]["image_size"], found["facts"]["threads"], found["facts"]["not_built"]) == (64, 0, [])
    assert {name: row["boundary"] for name, row in found["rows"].items()} == rows
    for row in found["rows"].values():
        assert row["title"] in done.stdout
        assert row["requests"] == 2
        assert 0 < row["p50_low_ms"] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["p50_ms"] <= row["p50_high_ms"]
        assert row["first_ms"] > 0
        assert row["per_second"] == pytest.approx(1000 / row["p50_ms"], rel=0.01)  # two requests: mean and median agree
        assert row["psnr_db"] >= 55
    parameters = found["facts"]["parameters"]["generators"]
    assert {name: row.get("parameters") for name, row in found["rows"].items()} == {
        **dict.fromkeys(rows), "outfit": parameters
    }  # fmt: skip


def test_the_benchmark_measures_a_training(run_copy: Path, tmp_path: Path) -> None:
    boundaries = {"train-step": "training step", "train-passes": "training step"}
    boundaries |= {"data-store": "data store", "data-augmented": "data store"}
    chosen = [part for row in boundaries for part in ("--row", row)]
    output = tmp_path / "bench.json"
    before = {path: path.read_bytes() for path in (run_copy / "checkpoints").iterdir()}
    options = ["--requests", 2, "--repeats", 1, "--threads", 1, "--output", output]
    done = bench("--run", run_copy, *chosen, *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert {name: row["boundary"] for name, row in rows.items()} == boundaries
    counts = {"train-step": 2, "train-passes": 2, "data-store": 8, "data-augmented": 8}  # the preset's batch is 2
    for name, outfits in counts.items():
        assert rows[name]["outfits_per_s"] == pytest.approx(outfits * rows[name]["per_second"], rel=0.01, abs=0.1)
        assert "psnr_db" not in rows[name]
    assert rows["data-store"]["p50_ms"] < rows["data-augmented"]["p50_ms"] < rows["train-passes"]["p50_ms"]
    ratio = rows["train-step"]["p50_ms"] / rows["train-passes"]["p50_ms"]
    assert f"A training step takes {ratio:.2f} of its passes alone (p50): " in done.stdout
    gibibytes = rows["train-step"]["peak_rss_mib"] / 1024
    assert f"Its process takes {gibibytes:.2f} GiB of memory: within 6 GiB." in done.stdout
    assert {path: path.read_bytes() for path in (run_copy / "checkpoints").iterdir()} == before


def test_one_generator_for_all_kinds_has_a_third_of_the_parameters() -> None:
    """As presets/shared.toml says; both are counted as a whole outfit's."""
    small, shared = (parameter_count(load_preset(name).model) for name in ("small", "shared"))
    one = sum(p.numel() for p in Generator(load_preset("small").model.generator).parameters())
    assert small["generators"] == 3 * one
    assert 0.25 < shared["generators"] / small["generators"] < 0.4
    assert small["collocation"] == shared["collocation"]


def test_an_untrained_run_is_made_once_and_can_be_exported(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", "tiny")
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert untrained_run(tmp_path / "run", "tiny").config == run.config
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    with torch.inference_mode():
        made = load_generator(run)(torch.ones(1, 3, 64, 64), torch.ones(1, 3, 1, 64, 64))  # (B, T, 3, S, S)
        score = load_classifier(run)(torch.rand(2, 4, 3, 64, 64) * 2 - 1)
    assert (made.shape, score.shape) == ((1, 3, 3, 64, 64), (2,))
    assert load_mask_generators(run) == {}
    save_untrained_masks(run)
    assert set(load_mask_generators(run)) == set(run.config.model.targets)
    with pytest.raises(RunError, match="another version of the preset small; remove it"):
        untrained_run(tmp_path / "run", "small")


def test_an_unknown_row_is_one_sentence(run: Path, tmp_path: Path) -> None:
    done = bench("--run", run, "--row", "abacus", "--output", tmp_path / "bench.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: There is no row abacus; choose from torch, ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.server
def test_every_hop_agrees_with_torch(measured_run: Path) -> None:
    hops = json.loads((measured_run / "parity.json").read_text())["hops"]
    fp32 = ["torch", "ONNX reference", "onnxruntime", "openvino", "tritonserver"]
    assert [hop["hop"] for hop in hops if hop["chain"] == "fp32"] == fp32
    assert ("fp16", "ONNX reference") in {(hop["chain"], hop["hop"]) for hop in hops}
    int8 = [hop for hop in hops if hop["chain"] == "int8"]
    assert [hop["hop"] for hop in int8] == ["ONNX reference", "openvino", "onnxruntime"]
    assert all(33 < hop["image_psnr_torch_db"] < 70 and hop["compatibility"] < 0.05 for hop in int8), int8
    assert sum(hop["nan_count"] for hop in hops) == 0
    for hop in hops:
        if hop["chain"] == "fp32":
            assert hop["image_psnr_torch_db"] >= 55, hop
            assert hop["warped_psnr_db"] >= 55, hop
            assert hop["compatibility"] <= 1e-4, hop

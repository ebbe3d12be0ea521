"""The benchmark and the parity table, over a run of the command line's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Verb = Callable[..., subprocess.CompletedProcess[str]]

BENCH = Path(__file__).parents[2] / "bench" / "run.py"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=400, cwd=BENCH.parents[1])


@pytest.mark.server
def test_the_benchmark_measures_each_row_and_its_parity(run_copy: Path, tmp_path: Path) -> None:
    rows = {"openvino": "engine, 1 item", "outfit": "process, 3 items", "served-grpc": "client, 3 items"}
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


def test_an_unknown_row_is_one_sentence(run: Path, tmp_path: Path) -> None:
    done = bench("--run", run, "--row", "abacus", "--output", tmp_path / "bench.json")
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("error: There is no row abacus; choose from torch, ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.server
def test_every_hop_agrees_with_torch(succeed: Verb, run_copy: Path) -> None:
    done = succeed("parity", "--run", run_copy)
    assert f"Wrote {run_copy}/parity.json." in done.stdout
    hops = json.loads((run_copy / "parity.json").read_text())["hops"]
    fp32 = ["torch", "ONNX reference", "onnxruntime", "openvino", "tritonserver"]
    assert [hop["hop"] for hop in hops if hop["chain"] == "fp32"] == fp32
    assert ("fp16", "ONNX reference") in {(hop["chain"], hop["hop"]) for hop in hops}
    assert sum(hop["nan_count"] for hop in hops) == 0
    for hop in hops:
        if hop["chain"] == "fp32":
            assert hop["image_psnr_torch_db"] >= 55, hop
            assert hop["warped_psnr_db"] >= 55, hop
            assert hop["compatibility"] <= 1e-4, hop

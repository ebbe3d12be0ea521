"""A run's portable graphs by the command line, from the export to a picture, over a simulated TensorRT 10.3."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from simulation import simulated

from engines.manifest import read_manifest
from export.exported import find_graphs
from outfitgan.run_folder import RunFolder
from serving.run_pipeline import run_engines

Verb = Callable[..., subprocess.CompletedProcess[str]]
FP16 = ("--runtime", "tensorrt", "--precision", "fp16")


@pytest.fixture
def old_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    with simulated() as modules:
        monkeypatch.setattr(modules.trt, "__version__", "10.3.0")
        monkeypatch.setitem(sys.modules, "tensorrt.plugin", None)
        yield modules


def test_from_the_export_to_an_outfit(
    here: Verb, run_copy: Path, old_tensorrt: SimpleNamespace, tmp_path: Path
) -> None:
    refused = here("build", "--run", run_copy, *FP16)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        f"error: This runtime builds from portable graphs, and {run_copy} has none; export them with 'outfitgan export "
        f"--run {run_copy} --form portable'."
    )
    standard = {path: path.read_bytes() for path in (run_copy / "graphs").iterdir()}
    done = here("export", "--run", run_copy, "--form", "portable", "--precision", "fp16")
    folder = run_copy / "graphs" / "portable"
    assert done.stdout == f"Exported 7 graphs to {folder}, each within its tolerance of torch.\n"
    assert {path: path.read_bytes() for path in (run_copy / "graphs").iterdir() if path.is_file()} == standard
    assert {graph.form for graph in find_graphs(folder, "fp16").values()} == {"portable"}
    done = here("build", "--run", run_copy, *FP16)
    assert done.stdout == f"Built 7 tensorrt fp16 engines in {run_copy}/engines.\n"
    engines = run_engines(RunFolder(run_copy), "tensorrt", "fp16")
    assert {read_manifest(engine).profile.max_batch for engine in engines.values()} == {2}

    here("data", "write", "--output", tmp_path / "examples", "--size", 64, "--count", 1)
    item = tmp_path / "examples" / "000"
    masks = [f"--mask={kind}={item / f'{kind}_mask.png'}" for kind in ("bag", "lower", "shoes")]
    source = ("--source", item / "upper.png")
    done = here("generate", "--run", run_copy, *FP16, *source, *masks, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "outfit.png").is_file()

    done = here("assemble", "--run", run_copy, *FP16, "--output", tmp_path / "repository")
    assert done.returncode == 2
    assert "is of a portable graph, which takes batches of 1 to 2, and a server sends 1 to 8" in done.stderr


def test_an_unknown_form_is_one_sentence(here: Verb, run_copy: Path) -> None:
    files = sorted(run_copy.rglob("*"))
    done = here("export", "--run", run_copy, "--form", "compact")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: There is no graph form 'compact'; choose from standard, portable.\n"
    assert sorted(run_copy.rglob("*")) == files

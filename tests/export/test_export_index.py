"""One export is one whole set of graphs, tied to the weights it came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from export.exported import ExportedGraph, drop_index, find_graphs
from outfitgan.errors import GraphError


@pytest.fixture
def folder(exported: dict[tuple[str, str], ExportedGraph], tmp_path: Path) -> Path:
    """A copy of the session's export that a test may spoil."""
    origin = next(iter(exported.values())).path.parent
    return Path(shutil.copytree(origin, tmp_path / "graphs"))


def test_a_whole_export_is_found(exported: dict[tuple[str, str], ExportedGraph], folder: Path) -> None:
    for precision in ("fp32", "fp16"):
        assert set(find_graphs(folder, precision)) == {name for name, kind in exported if kind == precision}


def test_an_unfinished_export_is_refused(folder: Path) -> None:
    drop_index(folder, "fp32")
    with pytest.raises(GraphError, match="no finished fp32 export"):
        find_graphs(folder, "fp32")
    assert find_graphs(folder, "fp16")


def test_graphs_of_other_weights_are_refused(folder: Path) -> None:
    assert find_graphs(folder, "fp32", origin="")
    with pytest.raises(GraphError, match="earlier checkpoint"):
        find_graphs(folder, "fp32", origin="another")


def test_a_graph_of_another_export_is_refused(folder: Path) -> None:
    for suffix in (".onnx", ".json"):  # whole and valid by itself, but not the one that was listed
        shutil.copy(folder / f"generator_bag.fp16{suffix}", folder / f"generator_bag.fp32{suffix}")
    with pytest.raises(GraphError, match=r"generator_bag .* of another export"):
        find_graphs(folder, "fp32")


def test_an_unreadable_index_is_one_sentence(folder: Path) -> None:
    for content in ("{", "[]", json.dumps({"graphs": {}})):
        (folder / "graphs.fp32.json").write_text(content, encoding="utf-8")
        with pytest.raises(GraphError, match="not readable"):
            find_graphs(folder, "fp32")

"""Profiles, options and other weights, as far as the CPU runtimes have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.engine_store import EngineStore
from engines.manifest import Profile, read_manifest
from engines.onnxruntime.onnxruntime_engine import OnnxruntimeEngine
from export.exported import ExportedGraph
from outfitgan.errors import ConfigError, EngineError, UnsupportedError


def test_a_profile_is_part_of_the_engine(collocation_graph: ExportedGraph, tmp_path: Path) -> None:
    store, profile = EngineStore(tmp_path), Profile(1, 2, 3)
    whole = store.build(collocation_graph, "onnxruntime", "fp32")
    assert read_manifest(whole).profile == Profile(1, 1, 8)
    assert store.find(collocation_graph, "onnxruntime", "fp32", profile) is None
    narrow = store.build(collocation_graph, "onnxruntime", "fp32", profile)
    assert narrow != whole
    assert read_manifest(narrow).profile == profile
    assert store.find(collocation_graph, "onnxruntime", "fp32", profile) == narrow


@pytest.mark.parametrize("batches", [(0, 1, 8), (1, 1, 9), (2, 1, 8), (1, 4, 3)])
def test_a_profile_outside_the_contract_is_refused(
    batches: tuple[int, int, int], alignment: ExportedGraph, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="takes batches of 1 to 8; give a profile of rising batches"):
        EngineStore(tmp_path).build(alignment, "onnxruntime", "fp32", Profile(*batches))
    assert not list(tmp_path.iterdir())


def test_the_engine_is_measured_at_the_batches_of_its_profile(
    collocation_graph: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, infer = [], OnnxruntimeEngine._infer

    def counted(self: OnnxruntimeEngine, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batches.append(len(feeds["UPPER"]))
        return infer(self, feeds)

    monkeypatch.setattr(OnnxruntimeEngine, "_infer", counted)
    EngineStore(tmp_path).build(collocation_graph, "onnxruntime", "fp32", Profile(2, 2, 3))
    assert set(batches) == {2, 3}


def test_options_that_a_runtime_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runtime openvino has no option refittable, nor any other; leave it out"):
        EngineStore(tmp_path).choose("openvino", {"refittable": True})
    assert not list(tmp_path.iterdir())


def test_an_options_file_that_is_not_toml_is_refused(alignment: ExportedGraph, tmp_path: Path) -> None:
    (tmp_path / "openvino.toml").write_text("refittable")
    with pytest.raises(ConfigError, match=r"openvino\.toml is not TOML .* remove it for the defaults"):
        EngineStore(tmp_path).build(alignment, "openvino", "fp32")


def test_a_cpu_engine_takes_no_other_weights(alignment: ExportedGraph, built: EngineStore) -> None:
    with pytest.raises(UnsupportedError, match="onnxruntime puts no other weights into an engine; build it"):
        built.refit(built.build(alignment, "onnxruntime", "fp32"), alignment)


def test_a_build_reports_its_progress(
    alignment: ExportedGraph, collocation_graph: ExportedGraph, tmp_path: Path
) -> None:
    graphs, seen = {"first": alignment, "second": collocation_graph}, []
    EngineStore(tmp_path).build_all(graphs, "onnxruntime", "fp32", lambda *step: seen.append(step))
    assert seen == [("first", 1, 2), ("second", 2, 2)]

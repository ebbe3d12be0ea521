"""The store: what builds, what does not build twice, what is never loaded."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engines.engine_store import EngineStore
from engines.manifest import MANIFEST, read_manifest, write_manifest
from engines.onnxruntime.cpu import OnnxruntimeCpu
from engines.registry import RUNTIMES, open_engine
from engines.settings import BuildSettings
from export.exported import ExportedGraph, save_sidecar
from outfitgan.errors import EngineError
from outfitgan.files import sha256_of


def changed_copy(graph: ExportedGraph, folder: Path, shift: float) -> ExportedGraph:
    """Return the graph with one convolution shifted, as another training would leave it."""
    model = onnx.load(graph.path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + np.float32(shift), weight.name))
    path = folder / graph.path.name
    onnx.save(model, path)
    changed = dataclasses.replace(graph, path=path, sha256=sha256_of(path))
    save_sidecar(changed)
    return changed


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_manifest_says_what_was_built(runtime: str, alignment: ExportedGraph, built: EngineStore) -> None:
    folder = built.build(alignment, runtime, "fp32")
    manifest = read_manifest(folder)
    assert folder.name == f"alignment_bag.{runtime}.fp32.{manifest.key[:12]}"
    assert (manifest.graph_sha256, manifest.contract) == (alignment.sha256, alignment.contract)
    assert set(manifest.versions) == {runtime}
    assert manifest.device["name"]
    assert set(manifest.parity) == {"WARPED", "MATCH", "WEIGHT"}
    assert (manifest.profile.min_batch, manifest.profile.max_batch) == (1, 8)
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {MANIFEST}
    assert str(built.root) not in (folder / MANIFEST).read_text()


def test_same_inputs_build_once(alignment: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EngineStore(tmp_path)
    assert store.find(alignment, "onnxruntime", "fp32") is None
    first = store.build(alignment, "onnxruntime", "fp32")
    time = first.stat().st_mtime_ns, (first / MANIFEST).stat().st_mtime_ns
    monkeypatch.setattr(OnnxruntimeCpu, "build", None)
    assert store.build(alignment, "onnxruntime", "fp32") == first
    assert store.find(alignment, "onnxruntime", "fp32") == first
    assert (first.stat().st_mtime_ns, (first / MANIFEST).stat().st_mtime_ns) == time


def test_changed_weights_build_anew(alignment: ExportedGraph, tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "engines")
    first = store.build(alignment, "onnxruntime", "fp32")
    changed = changed_copy(alignment, tmp_path, 0.1)
    assert store.find(changed, "onnxruntime", "fp32") is None
    second = store.build(changed, "onnxruntime", "fp32")
    assert second != first
    assert read_manifest(second).files != read_manifest(first).files


def test_another_version_builds_anew(
    alignment: ExportedGraph, built: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.build(alignment, "onnxruntime", "fp32")
    monkeypatch.setattr(OnnxruntimeCpu, "versions", lambda self: {"onnxruntime": "99"})
    assert built.find(alignment, "onnxruntime", "fp32") is None


def test_device_counts_where_an_engine_is_bound_to_it(
    alignment: ExportedGraph, built: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.build(alignment, "onnxruntime", "fp32")
    monkeypatch.setattr(OnnxruntimeCpu, "device", lambda self: {"name": "another"})
    assert built.find(alignment, "onnxruntime", "fp32")
    monkeypatch.setattr(OnnxruntimeCpu, "required_device_fields", lambda self, options: ("name",))
    assert built.find(alignment, "onnxruntime", "fp32") is None


def test_graph_changed_behind_its_sidecar_is_refused(alignment: ExportedGraph, tmp_path: Path) -> None:
    graph = changed_copy(alignment, tmp_path, 0)
    graph.path.write_bytes(graph.path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="changed after it was loaded"):
        EngineStore(tmp_path / "engines").build(graph, "onnxruntime", "fp32")


def test_interrupted_build_leaves_nothing(
    alignment: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(
        self: OnnxruntimeCpu, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings
    ) -> dict[str, Any]:
        (folder / "model.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(OnnxruntimeCpu, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EngineStore(tmp_path).build(alignment, "onnxruntime", "fp32")
    assert not list(tmp_path.iterdir())


def test_out_of_tolerance_leaves_nothing(
    alignment: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed_copy(alignment, tmp_path, 0.5)

    def wrong(
        self: OnnxruntimeCpu, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings
    ) -> dict[str, Any]:
        (folder / "model.onnx").write_bytes(other.path.read_bytes())
        return {}

    monkeypatch.setattr(OnnxruntimeCpu, "build", wrong)
    with pytest.raises(EngineError, match=r"engine of alignment_bag is out of tolerance: WARPED: PSNR .* \(at least"):
        EngineStore(tmp_path / "engines").build(alignment, "onnxruntime", "fp32")
    assert not list((tmp_path / "engines").iterdir())


def test_altered_engine_is_refused_then_built_again(
    alignment: ExportedGraph, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EngineStore(tmp_path)
    folder = store.build(alignment, "openvino", "fp32")
    weights = folder / "model.bin"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"\1")
    with pytest.raises(EngineError, match="altered after the build"):
        open_engine(folder)
    with pytest.raises(EngineError, match="altered after the build"):
        store.find(alignment, "openvino", "fp32")
    with caplog.at_level(logging.WARNING):
        assert store.build(alignment, "openvino", "fp32") == folder
    assert "altered" in caplog.text
    assert weights.read_bytes() == good


def test_missing_file_and_manifest_are_said(alignment: ExportedGraph, tmp_path: Path) -> None:
    folder = EngineStore(tmp_path).build(alignment, "onnxruntime", "fp32")
    (folder / "model.onnx").unlink()
    with pytest.raises(EngineError, match=r"lacks its file model\.onnx"):
        open_engine(folder)
    with pytest.raises(EngineError, match="no engine in"):
        open_engine(tmp_path / "nowhere")


def test_a_file_that_the_manifest_does_not_list_is_refused(alignment: ExportedGraph, tmp_path: Path) -> None:
    folder = EngineStore(tmp_path).build(alignment, "onnxruntime", "fp32")
    (folder / "model.onnx.data").write_bytes(b"stray")
    with pytest.raises(EngineError, match=r"holds model\.onnx\.data, which its manifest does not list"):
        open_engine(folder)


def test_an_engine_under_another_engines_name_is_refused_then_built_again(
    alignment: ExportedGraph, tmp_path: Path
) -> None:
    store = EngineStore(tmp_path)
    folder = store.build(alignment, "onnxruntime", "fp32")
    manifest = read_manifest(folder)
    write_manifest(dataclasses.replace(manifest, key=manifest.key[:12] + "0" * 52), folder)
    with pytest.raises(EngineError, match="holds another engine than its name says"):
        store.find(alignment, "onnxruntime", "fp32")
    assert read_manifest(store.build(alignment, "onnxruntime", "fp32")) == manifest


def test_an_engine_bound_to_another_device_is_not_opened(
    alignment: ExportedGraph, built: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built.build(alignment, "onnxruntime", "fp32")
    monkeypatch.setattr(OnnxruntimeCpu, "device", lambda self: {"name": "another"})
    open_engine(folder).close()
    monkeypatch.setattr(OnnxruntimeCpu, "required_device_fields", lambda self, options: ("name",))
    with pytest.raises(EngineError, match="runs only there, not on another; build it here"):
        open_engine(folder)


def test_an_engine_that_appeared_during_the_build_is_kept(
    alignment: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, build = EngineStore(tmp_path), OnnxruntimeCpu.build

    def beaten(
        self: OnnxruntimeCpu, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings
    ) -> dict[str, Any]:
        monkeypatch.setattr(OnnxruntimeCpu, "build", build)
        made.append(store.build(graph, "onnxruntime", precision).stat().st_ino)
        return build(self, graph, folder, precision, settings)

    made: list[int] = []
    monkeypatch.setattr(OnnxruntimeCpu, "build", beaten)
    folder = store.build(alignment, "onnxruntime", "fp32")
    assert [folder.stat().st_ino] == made
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99, not 3"),
        ({"profile": {}}, "not readable"),
        ({"contract": {}}, "not readable"),
        ({"surprise": 1}, "not readable"),
        ({"files": []}, "not readable"),
        ({"files": {}}, "not readable"),
        ({"files": {"model.onnx": 3}}, "not readable"),
        ({"files": {"../model.onnx": "0" * 64}}, "not a file of the folder"),
        ({"files": {"/model.onnx": "0" * 64}}, "not a file of the folder"),
        ({"runtime": ["onnxruntime"]}, "not readable"),
        ({"device": "here"}, "not readable"),
        ({"options": ["refittable"]}, "not readable"),
        ({"details": 3}, "not readable"),
        ({"verified": "yes"}, "verified is neither true nor false"),
        ({"profile": []}, "not readable"),
    ],
)
def test_other_manifests_are_refused(
    change: dict[str, object], message: str, alignment: ExportedGraph, built: EngineStore, tmp_path: Path
) -> None:
    source = built.build(alignment, "onnxruntime", "fp32") / MANIFEST
    (tmp_path / MANIFEST).write_text(json.dumps({**json.loads(source.read_text()), **change}))
    with pytest.raises(EngineError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_manifest_of_an_earlier_format_is_read(
    version: int, alignment: ExportedGraph, built: EngineStore, tmp_path: Path
) -> None:
    """The first called the runtime `target`; in neither was there an engine that had not run."""
    folder = built.build(alignment, "onnxruntime", "fp32")
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    content = json.loads((copy / MANIFEST).read_text())
    assert content.pop("verified") is True
    names = {"runtime": "target"} if version == 1 else {}
    old = {names.get(name, name): value for name, value in content.items()} | {"format": version}
    (copy / MANIFEST).write_text(json.dumps(old))
    assert read_manifest(copy) == read_manifest(folder)
    open_engine(copy).close()


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "not a manifest")])
def test_broken_manifests_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(EngineError, match=message):
        read_manifest(tmp_path)


def test_unknown_runtime_lists_the_known(alignment: ExportedGraph, built: EngineStore) -> None:
    with pytest.raises(EngineError, match="no runtime 'tpu'; choose from onnxruntime, openvino"):
        built.build(alignment, "tpu", "fp32")
    assert {"onnxruntime", "openvino"} <= set(RUNTIMES)


def test_serving_imports_neither_torch_nor_onnx() -> None:
    heavy = ["torch", "onnx", "onnxscript", "onnxruntime", "openvino"]
    code = f"import sys, engines.engine_store; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_running_an_engine_needs_no_torch(alignment: ExportedGraph, built: EngineStore) -> None:
    folder = built.build(alignment, "openvino", "fp32")
    code = (
        "import sys, numpy, pathlib\n"
        "from engines.registry import open_engine\n"
        f"with open_engine(pathlib.Path({str(folder)!r}), 1) as engine:\n"
        "    feeds = {s.name: numpy.zeros((1, *s.shape), s.dtype) for s in engine.contract.inputs}\n"
        "    print(sorted(engine.run(feeds)), 'torch' in sys.modules, 'onnx' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['MATCH', 'WARPED', 'WEIGHT'] False False"

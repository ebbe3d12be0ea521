"""Runtimes whose packages or providers are not here, and the errors that say so."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest

from engines.engine_store import EngineStore
from engines.manifest import read_manifest
from engines.onnxruntime.gpu import OnnxruntimeCuda, OnnxruntimeTensorrt
from engines.onnxruntime.onnxruntime_engine import OnnxruntimeEngine
from engines.openvino.cpu import OpenvinoCpu
from engines.registry import RUNTIMES, graph_precision, load_runtime, open_engine
from export.exported import ExportedGraph
from outfitgan.errors import ConfigError, EngineError, UnsupportedError

without_tensorrt = pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")
without_pycuda = pytest.mark.skipif(find_spec("pycuda") is not None, reason="PyCUDA is installed here")
PROVIDERS = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}
without_gpu = pytest.mark.skipif(
    bool({*PROVIDERS.values()} & {*onnxruntime.get_available_providers()}), reason="this is onnxruntime-gpu"
)


@without_tensorrt
def test_the_command_line_says_what_to_install() -> None:
    command = [sys.executable, "-c", "from cli.main import main; main()", "build", "--run", "nowhere"]
    done = subprocess.run([*command, "--runtime", "tensorrt"], capture_output=True, text=True, check=False)
    says = "The runtime tensorrt needs the package tensorrt, which is not installed; pip install 'outfitgan[gpu]'."
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {says}\n")


@without_tensorrt
def test_a_plan_without_tensorrt_is_not_opened(alignment: ExportedGraph, built: EngineStore, tmp_path: Path) -> None:
    folder = built.build(alignment, "onnxruntime", "fp32")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"runtime": "onnxruntime"', '"runtime": "tensorrt"'))
    with pytest.raises(EngineError, match="needs the package tensorrt, which is not installed"):
        open_engine(tmp_path)


def test_a_missing_library_is_another_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of TensorRT's bindings without its libraries."""

    def unloadable(runtime: OpenvinoCpu) -> dict[str, str]:
        raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(OpenvinoCpu, "versions", unloadable)
    with pytest.raises(EngineError, match=r"openvino does not load \(libnvinfer\.so\.11: .*\); put it on the library"):
        load_runtime("openvino")


@without_pycuda
def test_the_gpu_needs_pycuda() -> None:
    from engines.plan.cuda import gpu

    with pytest.raises(EngineError, match="Running TensorRT's plans needs the package pycuda; pip install pycuda"):
        gpu()


def test_the_gpu_needs_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyCUDA's import says without libcuda."""
    from engines.plan.cuda import gpu

    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(EngineError, match=r"no NVIDIA driver here \(libcuda\.so\.1: .*\); install one, or take a CPU"):
        gpu()


@pytest.mark.parametrize(
    ("runtime", "precision", "graph"),
    [
        ("openvino", "bf16", "fp32"),
        ("onnxruntime", "fp32", "fp32"),
        ("onnxruntime", "fp16", "fp32"),  # it is refused by the runtime, in a better sentence than a missing graph's
        ("onnxruntime-cuda", "fp16", "fp16"),
        ("onnxruntime-tensorrt", "fp32", "fp32"),
    ],
)
def test_the_graphs_precision_follows_the_engines(runtime: str, precision: str, graph: str) -> None:
    assert graph_precision(runtime, precision) == graph


def test_tensorrt_takes_the_fp16_graph(gpu: SimpleNamespace) -> None:
    assert graph_precision("tensorrt", "fp16") == "fp16"
    assert graph_precision("tensorrt", "fp32") == "fp32"


# onnxruntime's providers for a GPU


@without_gpu
@pytest.mark.parametrize("runtime", PROVIDERS)
def test_a_missing_provider_is_an_error(runtime: str, alignment: ExportedGraph, tmp_path: Path) -> None:
    says = f"This onnxruntime has no {PROVIDERS[runtime]}; pip install onnxruntime-gpu in the place of onnxruntime"
    graph_store = EngineStore(tmp_path)
    with pytest.raises(UnsupportedError, match=says):
        graph_store.build(alignment, runtime, "fp32")
    assert not list(tmp_path.iterdir())


@without_gpu
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_onnxruntimes_step_back_to_the_cpu_is_an_error(alignment: ExportedGraph, built: EngineStore) -> None:
    """It takes the CPU's provider where another does not load, and only a warning tells."""
    folder = built.build(alignment, "onnxruntime", "fp32")
    manifest = dataclasses.replace(read_manifest(folder), runtime="onnxruntime-cuda")
    says = "runs alignment_bag on CPUExecutionProvider, not on CUDAExecutionProvider, which does not load; install"
    with pytest.raises(EngineError, match=says):
        OnnxruntimeEngine(folder / "model.onnx", manifest, 1, "CUDAExecutionProvider", {})


@pytest.mark.skipif("AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="it is not here")
def test_nodes_on_another_provider_are_an_error(alignment: ExportedGraph, built: EngineStore) -> None:
    """Azure's provider is the session's first, and has not one kernel: every node is the CPU's."""
    folder = built.build(alignment, "onnxruntime", "fp32")
    manifest = dataclasses.replace(read_manifest(folder), runtime="onnxruntime-cuda")
    says = r"runs .*\bConv, .* of alignment_bag on another provider than AzureExecutionProvider, which has no kernel"
    with pytest.raises(EngineError, match=says):
        OnnxruntimeEngine(folder / "model.onnx", manifest, 1, "AzureExecutionProvider", {})


@pytest.mark.skipif("AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="it is not here")
def test_the_cpu_may_compute_shapes(alignment: ExportedGraph, built: EngineStore, tmp_path: Path) -> None:
    """As it does for CUDA's provider: what `session.disable_cpu_ep_fallback` would refuse."""
    manifest = read_manifest(built.build(alignment, "onnxruntime", "fp32"))
    for node, taken in (("Shape", True), ("Exp", False)):
        kind = onnx.TensorProto.INT64 if taken else onnx.TensorProto.FLOAT
        ends = [
            onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3]),
            onnx.helper.make_tensor_value_info("y", kind, None),
        ]
        graph = onnx.helper.make_graph([onnx.helper.make_node(node, ["x"], ["y"])], "g", ends[:1], ends[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
        onnx.save(model, path := tmp_path / f"{node}.onnx")
        if taken:
            OnnxruntimeEngine(path, manifest, 1, "AzureExecutionProvider", {}).close()
            continue
        with pytest.raises(EngineError, match="onnxruntime runs Exp of alignment_bag on another provider"):
            OnnxruntimeEngine(path, manifest, 1, "AzureExecutionProvider", {})


def test_tensorrts_provider_is_told_of_fp16() -> None:
    """TensorRT 10 refuses FP16 tensors in a network that is not; whether onnxruntime takes the key, a GPU tells."""
    settings = OnnxruntimeTensorrt.settings
    assert settings["fp16"]["trt_fp16_enable"] == "1"
    assert "trt_fp16_enable" not in settings["fp32"]
    for runtime in (OnnxruntimeCuda, OnnxruntimeTensorrt):
        assert set(runtime.settings) == set(runtime.graph_precisions)


def test_a_gpu_provider_takes_the_graphs_precision(
    half_alignment: ExportedGraph, gpu: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the CPU's provider under the other's name, which shows all but the GPU."""
    monkeypatch.setattr(OnnxruntimeCuda, "provider", "CPUExecutionProvider")
    monkeypatch.setattr(OnnxruntimeCuda, "settings", {"fp16": {}})
    store = EngineStore(tmp_path)
    with pytest.raises(UnsupportedError, match="runs alignment_bag in the precision of its graph, fp16, not in fp32"):
        store.build(half_alignment, "onnxruntime-cuda", "fp32")
    folder = store.build(half_alignment, "onnxruntime-cuda", "fp16")
    assert read_manifest(folder).device["name"] == "Simulated A10"
    open_engine(folder).close()
    with pytest.raises(ConfigError, match="onnxruntime-cuda has no option provider"):
        store.choose("onnxruntime-cuda", {"provider": "cpu"})


def test_every_runtime_offers_what_the_interface_says(gpu: SimpleNamespace) -> None:
    for name in RUNTIMES:
        runtime = load_runtime(name)
        assert runtime.graph_precisions["fp32"] == "fp32"
        assert runtime.versions()
        assert runtime.device()["name"]
        assert set(runtime.required_device_fields(runtime.options({}))) <= set(runtime.device())

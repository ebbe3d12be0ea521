"""What a machine with TensorRT, its builder and an NVIDIA GPU must show: `pytest tests/gpu`. Not run by us yet."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gpu_graphs import CORRELATING, ROLES, Exporter, exporter

from engines.engine_store import EngineStore
from engines.manifest import MANIFEST, Profile, hash_files, read_manifest
from engines.registry import open_engine
from export.exported import ExportedGraph
from export.parity import adversarial_inputs, compare, shortfalls
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError
from outfitgan.files import sha256_of


def missing() -> str:
    """Return what this machine lacks."""
    if absent := [name for name in ("tensorrt", "pycuda") if find_spec(name) is None]:
        return f"the packages {', '.join(absent)}; pip install 'outfitgan[gpu]'"
    from engines.registry import load_runtime

    try:
        load_runtime("tensorrt").device()
    except EngineError as error:
        return str(error)
    return ""


MISSING = missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"This needs TensorRT and an NVIDIA GPU. Missing: {MISSING}")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    return exporter(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    return EngineStore(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def graph(exported: Exporter) -> ExportedGraph:
    return exported("alignment", "fp16")


@pytest.fixture(scope="session")
def plan(store: EngineStore, graph: ExportedGraph) -> Path:
    return store.build(graph, "tensorrt", "fp16")


def feeds_of(graph: ExportedGraph, batch: int, seed: int = 5) -> dict[str, np.ndarray]:
    return adversarial_inputs(graph.contract, batch, seed)[0][1]


def reference(graph: ExportedGraph, feeds: Arrays) -> Arrays:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in graph.contract.outputs]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def agrees(graph: ExportedGraph, feeds: Arrays, outputs: Arrays) -> str:
    return shortfalls(compare(reference(graph, feeds), outputs, graph.contract), graph.contract, graph.precision)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_graph_builds_within_its_tolerance(
    role: str, precision: str, exported: Exporter, store: EngineStore
) -> None:
    graph = exported(role, precision)
    profile = Profile(1, 1, 2) if role == "paper_alignment" else None  # onnxruntime's side of the parity takes long
    folder = store.build(graph, "tensorrt", precision, profile)
    manifest = read_manifest(folder)
    assert set(manifest.parity) == {spec.name for spec in graph.contract.outputs}
    assert sum(manifest.details["layers"].values()) > 0
    assert bool(manifest.details["kernels"]) == (role in CORRELATING)
    assert len(manifest.profiles) == (manifest.profile.max_batch if role in CORRELATING else 1)
    assert store.build(graph, "tensorrt", precision, profile) == folder


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_cold_wide_correlation_weighs_its_matches(precision: str, exported: Exporter, store: EngineStore) -> None:
    """At 0.01 logits reach 100: whatever exponentiates them without their maximum gives infinity, and weights of 0."""
    graph = exported("paper_alignment", precision)
    with open_engine(store.build(graph, "tensorrt", precision, Profile(1, 1, 2))) as engine:
        for label, feeds in adversarial_inputs(graph.contract, 1, seed=9):
            outputs = engine.run(feeds)
            assert np.isfinite(outputs["WARPED"]).all(), label
            assert outputs["WEIGHT"].min() > 0.9 / 64**2, label  # the best of 64 * 64 weighs no less than their mean
            assert not agrees(graph, feeds, outputs), label


def test_an_int8_generator(exported: Exporter, store: EngineStore) -> None:
    """Some convolutions are in INT8, or there is no engine; its items are within 33 dB, or there is none either."""
    graph = exported("generator", "int8-fp16")
    folder = store.build(graph, "tensorrt", "int8")
    assert read_manifest(folder).details["kernels"]
    with open_engine(folder) as engine:
        feeds = feeds_of(graph, 3)
        assert not agrees(graph, feeds, engine.run(feeds))


def test_batches_in_any_order(plan: Path, graph: ExportedGraph) -> None:
    with open_engine(plan) as engine:
        for batch in (3, 1, 8, 2, 2):
            feeds = feeds_of(graph, batch, seed=batch)
            assert not agrees(graph, feeds, engine.run(feeds))


def test_batches_that_take_turns_leak_nothing(plan: Path, graph: ExportedGraph) -> None:
    """NVIDIA/TensorRT issue 4849: a context with an AOT plugin keeps memory at each change of its shapes."""
    import pycuda.driver

    feeds = {batch: feeds_of(graph, batch) for batch in (1, 8)}
    with open_engine(plan) as engine:

        def free_after(turns: int) -> int:
            for _ in range(turns):
                for batch in feeds:
                    engine.run(feeds[batch])
            with engine._gpu.current():  # type: ignore[attr-defined]
                return int(pycuda.driver.mem_get_info()[0])

        before = free_after(10)  # what is loaded once is loaded
        lost = before - free_after(2000)
    assert lost < 16 << 20, f"{lost >> 20} MiB went in 4000 changes of batch; nothing else must use the GPU meanwhile"


def test_adversarial_rows(plan: Path, graph: ExportedGraph) -> None:
    with open_engine(plan) as engine:
        for label, feeds in adversarial_inputs(graph.contract, 1, seed=9):
            assert not agrees(graph, feeds, engine.run(feeds)), label


def test_a_cuda_graph_gives_the_same_bits(plan: Path, graph: ExportedGraph) -> None:
    feeds = feeds_of(graph, 2)
    with open_engine(plan) as engine:
        context: Any = engine.main_context  # type: ignore[attr-defined]
        plain = engine.run(feeds)
        context.capture(2)
        for _ in range(3):
            captured = engine.run(feeds)
            assert all(np.array_equal(captured[name], plain[name]) for name in plain)
        other = feeds_of(graph, 3)
        assert not agrees(graph, other, engine.run(other))
        context.capture(3)
        for batch, wanted in ((2, feeds), (3, other), (2, feeds)):  # each batch has a context, and keeps its graph
            assert context._contexts[batch - 1].graph is not None
            assert not agrees(graph, wanted, engine.run(wanted))


def test_contexts_run_at_the_same_time(plan: Path, graph: ExportedGraph) -> None:
    with open_engine(plan) as engine, ThreadPoolExecutor(3) as pool:
        contexts: list[Any] = [engine.main_context, engine.new_context(), engine.new_context()]  # type: ignore[attr-defined]
        feeds = [feeds_of(graph, 1 + index, seed=index) for index in range(3)]
        made = list(pool.map(lambda index: [contexts[index].run(feeds[index]) for _ in range(20)], range(3)))
    for index, outputs in enumerate(made):
        assert not any(agrees(graph, feeds[index], output) for output in outputs)


def test_times(plan: Path, graph: ExportedGraph) -> None:
    with open_engine(plan) as engine:
        context: Any = engine.main_context  # type: ignore[attr-defined]
        layers = context.layer_times(feeds_of(graph, 1))
        assert sum(layers.values()) > 0
        assert min(context.compute_times(feeds_of(graph, 1), repeats=10)) > 0


def test_a_fresh_process_needs_numpy_tensorrt_and_pycuda_alone(
    plan: Path, graph: ExportedGraph, tmp_path: Path
) -> None:
    """No torch, no kernel language, no plugin's registration: the kernel is in the plan."""
    feeds = feeds_of(graph, 2)
    np.savez(tmp_path / "feeds.npz", **feeds)
    code = (
        "import sys, numpy, pathlib\n"
        "from engines.registry import open_engine\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        f"with open_engine(pathlib.Path({str(plan)!r})) as engine:\n"
        "    numpy.savez(folder / 'made.npz', **engine.run(dict(numpy.load(folder / 'feeds.npz'))))\n"
        "heavy = ('torch', 'triton', 'onnx', 'onnxruntime', 'tensorrt.plugin')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert not agrees(graph, feeds, dict(np.load(tmp_path / "made.npz")))


@pytest.mark.parametrize("broken", ["altered", "truncated"])
def test_a_broken_plan_is_a_sentence(broken: str, plan: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plan, tmp_path / "engine")
    content = (folder / "model.plan").read_bytes()
    (folder / "model.plan").write_bytes(b"no" + content[2:] if broken == "altered" else content[: len(content) // 2])
    with pytest.raises(EngineError, match="was altered after the build"):
        open_engine(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": hash_files(folder)}))
    with pytest.raises(EngineError, match=r"TensorRT refuses the plan of .*; build it again on this machine"):
        open_engine(folder)


@pytest.mark.parametrize(
    "choices",
    [
        {"optimization_level": 0},
        {"optimization_level": 5},
        {"workspace_mib": 64},
        {"hardware": "ampere_plus"},
        {"hardware": "same_compute_capability"},
        {"version_compatible": True},
        {"version_compatible": True, "hardware": "ampere_plus", "refittable": True},
    ],
    ids=str,
)
def test_every_option_builds_in_a_process_of_its_own(
    choices: dict[str, Any], graph: ExportedGraph, tmp_path: Path
) -> None:
    EngineStore(tmp_path).choose("tensorrt", choices)
    code = (
        "import pathlib\n"
        "from engines.engine_store import EngineStore\n"
        "from export.exported import load_graph\n"
        f"graph = load_graph(pathlib.Path({str(graph.path)!r}))\n"
        f"print(EngineStore(pathlib.Path({str(tmp_path)!r})).build(graph, 'tensorrt', 'fp16'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open_engine(Path(done.stdout.splitlines()[-1])) as engine:
        feeds = feeds_of(graph, 2)
        assert not agrees(graph, feeds, engine.run(feeds))
    assert len(list(tmp_path.glob("*.timing"))) == 1


def test_a_profile_of_its_own(graph: ExportedGraph, store: EngineStore) -> None:
    with open_engine(store.build(graph, "tensorrt", "fp16", Profile(1, 4, 4))) as engine:
        feeds = feeds_of(graph, 4)
        assert not agrees(graph, feeds, engine.run(feeds))


def test_refit(exported: Exporter, tmp_path: Path) -> None:
    graph = exported("generator", "fp16")
    model = onnx.load(graph.path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    shifted = onnx.numpy_helper.to_array(weight) + np.float16(0.05)
    weight.CopyFrom(onnx.numpy_helper.from_array(shifted, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    other = dataclasses.replace(graph, path=tmp_path / "other.onnx", sha256=sha256_of(tmp_path / "other.onnx"))
    store = EngineStore(tmp_path / "engines")
    store.choose("tensorrt", {"refittable": True})
    built = store.build(graph, "tensorrt", "fp16")
    refitted = store.refit(built, other)  # its parity with the other graph is measured
    with open_engine(refitted) as engine:
        feeds = feeds_of(graph, 2)
        assert not agrees(other, feeds, engine.run(feeds))
    first = read_manifest(built)
    shutil.rmtree(built)  # or it would be found, and nothing refitted
    back = read_manifest(store.refit(refitted, graph))
    assert back.key == first.key
    assert back.details["refitted"] == read_manifest(refitted).key


@pytest.mark.parametrize(
    ("runtime", "provider"),
    [("onnxruntime-cuda", "CUDAExecutionProvider"), ("onnxruntime-tensorrt", "TensorrtExecutionProvider")],
)
def test_onnxruntimes_providers(runtime: str, provider: str, graph: ExportedGraph, tmp_path: Path) -> None:
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"This onnxruntime has no {provider}; install onnxruntime-gpu in the place of onnxruntime.")
    if runtime == "onnxruntime-tensorrt" and not shutil.which("ldconfig"):
        pytest.skip("Whether libnvinfer.so.10 is here cannot be told without ldconfig.")
    if runtime == "onnxruntime-tensorrt":
        known = subprocess.run([str(shutil.which("ldconfig")), "-p"], capture_output=True, text=True, check=True).stdout
        if "libnvinfer.so.10" not in known:
            pytest.skip("onnxruntime's TensorRT provider needs TensorRT 10 (libnvinfer.so.10), which is not here.")
    with open_engine(EngineStore(tmp_path).build(graph, runtime, "fp16")) as engine:
        feeds = feeds_of(graph, 2)
        assert not agrees(graph, feeds, engine.run(feeds))


def test_trtexec_loads_the_plan(plan: Path) -> None:
    """The standard C++ runtime, without Python and without a plugin library."""
    trtexec = shutil.which("trtexec")
    if trtexec is None:
        pytest.skip("trtexec, which comes with TensorRT's own packages, is not on the path.")
    shapes = ("--useProfile=1", "--shapes=SOURCE:2x64x64x3,MASK:2x64x64x1")  # the second profile is of batch 2
    command = [trtexec, f"--loadEngine={plan / 'model.plan'}", *shapes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]

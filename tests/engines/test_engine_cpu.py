"""The CPU engines for real: outputs, refusals, life cycle."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from engines.engine import Engine
from engines.engine_store import EngineStore
from engines.openvino.cpu import core
from engines.registry import open_engine
from export.exported import ExportedGraph
from export.parity import adversarial_inputs, compare, shortfalls
from outfitgan.errors import EngineError, InputError

RUNTIMES = ("onnxruntime", "openvino")


def reference(graph: ExportedGraph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in graph.contract.outputs]
    return dict(zip(names, session.run(names, feeds), strict=True))


def opened(store: EngineStore, graph: ExportedGraph, runtime: str, threads: int = 1) -> Engine:
    return open_engine(store.build(graph, runtime, "fp32"), threads)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("name", ["alignment", "collocation_graph", "outfit_graph", "mask_graph"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_engine_agrees_with_the_graph(
    runtime: str, name: str, batch: int, built: EngineStore, request: pytest.FixtureRequest
) -> None:
    graph: ExportedGraph = request.getfixturevalue(name)
    with opened(built, graph, runtime) as engine:
        assert engine.contract == graph.contract
        for label, feeds in adversarial_inputs(graph.contract, batch, seed=21):
            figures = compare(reference(graph, feeds), engine.run(feeds), graph.contract)
            assert not shortfalls(figures, graph.contract, "fp32"), label


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_belong_to_the_caller(runtime: str, alignment: ExportedGraph, built: EngineStore) -> None:
    (_, one), (_, two), *_ = adversarial_inputs(alignment.contract, 1, seed=2)
    with opened(built, alignment, runtime) as engine:
        first = engine.run(one)
        kept = {name: array.copy() for name, array in first.items()}
        second = engine.run(two)
        assert not np.array_equal(first["WARPED"], second["WARPED"])
    for name, array in first.items():
        assert np.array_equal(array, kept[name])
        array[:] = 0  # writable


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_inputs_need_not_be_contiguous(runtime: str, alignment: ExportedGraph, built: EngineStore) -> None:
    feeds = adversarial_inputs(alignment.contract, 2, seed=2)[0][1]
    strided = {name: np.repeat(array, 2, axis=1)[:, ::2] for name, array in feeds.items()}
    flipped = {name: np.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1] for name, array in feeds.items()}
    with opened(built, alignment, runtime) as engine:
        expected = engine.run(feeds)["WARPED"]
        for other in (strided, flipped):
            assert np.array_equal(engine.run(other)["WARPED"], expected)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_wrong_inputs_are_refused(runtime: str, alignment: ExportedGraph, built: EngineStore) -> None:
    feeds = adversarial_inputs(alignment.contract, 1, seed=2)[0][1]
    with opened(built, alignment, runtime) as engine:
        with pytest.raises(InputError, match="takes"):
            engine.run({"SOURCE": feeds["SOURCE"]})
        with pytest.raises(InputError, match="must be uint8"):
            engine.run({**feeds, "MASK": feeds["MASK"].astype(np.float32)})
        with pytest.raises(InputError, match="batch size from 1 to 8"):
            engine.run({name: np.repeat(array, 9, axis=0) for name, array in feeds.items()})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_closed_engine_says_so(runtime: str, alignment: ExportedGraph, built: EngineStore) -> None:
    engine = opened(built, alignment, runtime)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(adversarial_inputs(alignment.contract, 1, seed=2)[0][1])


def test_threads_are_checked(alignment: ExportedGraph, built: EngineStore) -> None:
    with pytest.raises(EngineError, match="cannot have -1 threads"):
        opened(built, alignment, "onnxruntime", threads=-1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_fp16_is_refused_on_a_cpu(runtime: str, alignment: ExportedGraph, tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    with pytest.raises(EngineError, match="FP16 as FP32 on a CPU"):
        store.build(alignment, runtime, "fp16")
    half = dataclasses.replace(alignment, precision="fp16")
    with pytest.raises(EngineError, match="takes the fp32 graph of alignment_bag, not the fp16 one"):
        store.build(half, runtime, "fp32")
    assert not list(tmp_path.iterdir())


def test_onnxruntime_refuses_bf16(alignment: ExportedGraph, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="in fp32 and int8, not bf16; use fp32"):
        EngineStore(tmp_path).build(alignment, "onnxruntime", "bf16")


def test_openvino_refuses_an_unknown_precision(alignment: ExportedGraph, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine precision 'int4'"):
        EngineStore(tmp_path).build(alignment, "openvino", "int4")


def test_openvino_weights_are_not_compressed(alignment: ExportedGraph, built: EngineStore) -> None:
    folder = built.build(alignment, "openvino", "fp32")
    model = core().read_model(folder / "model.xml")
    kinds = {node.get_output_element_type(0).get_type_name() for node in model.get_ops() if not node.inputs()}
    assert "f16" not in kinds
    assert "f32" in kinds


CPU_HAS_BF16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.skipif(CPU_HAS_BF16, reason="this CPU computes in bf16; the refusal shows on one that does not")
def test_openvino_refuses_bf16_where_the_cpu_has_none(alignment: ExportedGraph, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="neither AVX512_BF16 nor AMX for bf16; use fp32"):
        EngineStore(tmp_path).build(alignment, "openvino", "bf16")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not CPU_HAS_BF16, reason="this CPU has neither AVX512_BF16 nor AMX, so bf16 cannot run here")
def test_openvino_bf16_is_within_its_tolerance(collocation_graph: ExportedGraph, tmp_path: Path) -> None:
    folder = EngineStore(tmp_path).build(collocation_graph, "openvino", "bf16")
    with open_engine(folder) as engine:
        assert engine.manifest.precision == "bf16"


def test_ctrl_c_is_pythons_own_after_engines_were_closed(alignment: ExportedGraph, built: EngineStore) -> None:
    """A Core that is freed may leave the process a stack for signals that is no longer there."""
    folder = built.build(alignment, "openvino", "fp32")
    program = (
        "import signal, sys; from pathlib import Path; from engines.registry import open_engine\n"
        "engines = [open_engine(Path(sys.argv[1]), 1) for _ in range(3)]\n"
        "while engines: engines.pop(0).close()\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: print('stopped')"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done

"""The body for CPU engines against the definition written out in FP64, and that it multiplies what takes part alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from engines.engine_store import EngineStore
from engines.openvino.cpu import core
from export.boundary import AlignmentGraph
from export.correlate_function import DOMAIN, NAME, OPSET, VERSION, correlate_function
from export.exporter import export_graph
from export.gathered import leave_out_ground
from outfitgan.config import ModelConfig
from outfitgan.items import ItemKind
from outfitgan.model_graphs import alignment_contract
from outfitgan.networks.alignment import SemanticAlignment

Array = NDArray[np.floating]
INPUTS = ("target", "source", "values")
TEMPERATURE = 0.05


def by_definition(target: Array, source: Array, values: Array, temperature: float = TEMPERATURE) -> Array:
    """Image by image, target position by target position, over the source positions that are no zero vectors."""
    warped = np.zeros((*values.shape[:2], *target.shape[2:]))
    for image in range(len(target)):
        query, key, value = (x[image].reshape(x.shape[1], -1).astype(np.float64) for x in (target, source, values))
        rows = warped[image].reshape(len(value), -1)  # (Cv, N), a view
        present = np.linalg.norm(key, axis=0) > 1e-6
        directions = key[:, present] / np.linalg.norm(key[:, present], axis=0)  # (C, m)
        for position in range(query.shape[1]):
            length = np.linalg.norm(query[:, position])
            if length <= 1e-6 or not present.any():
                continue
            cosines = query[:, position] @ directions / length
            odds = np.exp((cosines - cosines.max()) / temperature)
            rows[:, position] = value[:, present] @ (odds / odds.sum())
    return warped


def one_node(dtype: type = np.float32, temperature: float = TEMPERATURE) -> onnx.ModelProto:
    """A graph of one correlation, as it is exported."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shapes = {"target": "bchw", "source": "bcxy", "values": "bvxy", "warped": "bvhw"}
    infos = [helper.make_tensor_value_info(name, kind, list(axes)) for name, axes in shapes.items()]
    node = helper.make_node(NAME, INPUTS, ["warped"], domain=DOMAIN, temperature=temperature)
    graph = helper.make_graph([node], "one", infos[:-1], infos[-1:])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, functions=[correlate_function()], opset_imports=opsets, ir_version=10)


def gathered(dtype: type = np.float32, temperature: float = TEMPERATURE) -> onnx.ModelProto:
    model = leave_out_ground(one_node(dtype, temperature))
    onnx.checker.check_model(model, full_check=True)
    return model


def in_onnxruntime(model: onnx.ModelProto, *arrays: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(INPUTS, arrays, strict=True)))[0]


def in_openvino(model: onnx.ModelProto, *arrays: Array) -> Array:
    plain = core().read_model(inline_local_functions(model).SerializeToString())
    compiled = core().compile_model(plain, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(arrays)[0])


def in_onnx(model: onnx.ModelProto, *arrays: Array) -> Array:
    return ReferenceEvaluator(model).run(None, dict(zip(INPUTS, arrays, strict=True)))[0]


Run = Callable[..., Array]
RUNNERS: dict[str, Run] = {"onnxruntime": in_onnxruntime, "openvino": in_openvino, "onnx": in_onnx}


def draw(
    batch: int = 2,
    widths: tuple[int, int] = (16, 5),  # C, Cv
    grids: tuple[int, int, int, int] = (5, 7, 4, 6),  # H, W, Hs, Ws
    ground: float = 0.6,  # share of positions that are zero, each image's its own
    seed: int = 0,
) -> list[Array]:
    generator = np.random.default_rng((seed, batch, *widths))
    made = []
    for grid in (grids[:2], grids[2:]):
        features = generator.standard_normal((batch, widths[0], *grid))
        made.append(features * (generator.random((batch, 1, *grid)) >= ground))
    values = generator.uniform(-1, 1, (batch, widths[1], *grids[2:]))
    return [x.astype(np.float32) for x in (*made, values)]


def alone(features: Array, *positions: int) -> Array:
    """Return features with every other position zero."""
    flat = features.reshape(*features.shape[:2], -1)
    kept = np.zeros_like(flat)
    kept[..., list(positions)] = flat[..., list(positions)]
    return kept.reshape(features.shape)


def image_without(features: Array, image: int) -> Array:
    return features * (np.arange(len(features)) != image)[:, None, None, None].astype(np.float32)


def cases(batch: int) -> dict[str, tuple[Array, Array, Array]]:
    target, source, values = draw(batch)
    whole = draw(batch, ground=0)
    first, last = image_without(source, 0), image_without(source, batch - 1)
    return {
        "ground of each image's own": (target, source, values),
        "no ground": (whole[0], whole[1], values),
        "one image's source is zero": (target, first, values),
        "the last image's source is zero": (whole[0], last, values),
        "one image's target is zero": (image_without(target, 0), source, values),
        "all targets are zero": (target * 0, source, values),
        "all sources are zero": (target, source * 0, values),
        "all is zero": (target * 0, source * 0, values),
        "the first alone": (alone(whole[0], 0), alone(whole[1], 0), values),
        "the last alone": (alone(whole[0], -1), alone(whole[1], -1), values),
        "the first is ground": (alone(whole[0], 3, 9), alone(whole[1], 1, 20), values),
        "vectors of 1e-7": (target * np.float32(1e-7), source, values),
        "sources of 1e-7": (whole[0], np.where(source == 0, whole[1] * np.float32(1e-7), source), values),
    }


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("case", cases(1))
def test_it_follows_the_definition(runner: str, batch: int, case: str) -> None:
    arrays = cases(batch)[case]
    found = RUNNERS[runner](gathered(), *arrays)
    expected = by_definition(*arrays)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert not found[expected == 0].any()  # to the bit


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("widths", [(8, 8), (16, 16), (9, 24), (32, 3), (64, 64), (64, 7), (1, 1)])
@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_any_widths(runner: str, widths: tuple[int, int], temperature: float) -> None:
    arrays = draw(2, widths, (6, 3, 2, 9))
    found = RUNNERS[runner](gathered(temperature=temperature), *arrays)
    np.testing.assert_allclose(found, by_definition(*arrays, temperature), atol=3e-5, rtol=0)


def test_fp16_too() -> None:
    arrays = [x.astype(np.float16) for x in draw()]
    found = in_onnxruntime(gathered(np.float16), *arrays)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, by_definition(*arrays), atol=1e-2, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    grids=st.tuples(*[st.integers(1, 6)] * 4),
    ground=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    temperature=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32),
    runner=st.sampled_from(["onnxruntime", "onnx"]),
)
def test_any_shape_and_any_ground(
    batch: int,
    widths: tuple[int, int],
    grids: tuple[int, int, int, int],
    ground: float,
    temperature: float,
    seed: int,
    runner: str,
) -> None:
    arrays = draw(batch, widths, grids, ground, seed)
    found = RUNNERS[runner](gathered(temperature=temperature), *arrays)
    np.testing.assert_allclose(found, by_definition(*arrays, temperature), atol=5e-5)


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_is_ground_does_not_reach_the_rest(runner: str) -> None:
    """Values of source positions that are zero may be anything finite."""
    target, source, values = draw()
    wild = np.where(np.linalg.norm(source, axis=1, keepdims=True) > 0, values, np.float32(1e30))
    expected = RUNNERS[runner](gathered(), target, source, values)
    np.testing.assert_array_equal(RUNNERS[runner](gathered(), target, source, wild), expected)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_even_opposites_outweigh_what_another_image_holds(runner: str, temperature: float) -> None:
    """Both images hold one source position, each another's, opposite to all of the target."""
    target, source, values = (np.zeros((2, width, 3, 3), np.float32) for width in (16, 16, 5))
    target[:, 0], values[:] = 1, 1e30
    for image in range(2):
        source[image, 0, 1, image], values[image, :, 1, image] = -1, 0.5
    found = RUNNERS[runner](gathered(temperature=temperature), target, source, values)
    np.testing.assert_array_equal(found, np.full_like(found, 0.5))


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_is_not_a_number_is_seen(runner: str) -> None:
    """In a source it reaches its image, in a target its own position."""
    target, source, values = draw(2, ground=0)
    target[0, 3, 1, 2] = np.nan
    source[1, 3, 1, 1] = np.nan
    found = RUNNERS[runner](gathered(), target, source, values)
    expected = np.zeros(found.shape, bool)
    expected[0, :, 1, 2] = expected[1] = True
    np.testing.assert_array_equal(np.isnan(found), expected)


def test_only_what_any_image_holds_is_multiplied() -> None:
    """The attention's own inputs: the positions of both images together, and the first."""
    model = inline_local_functions(gathered())
    (attention,) = [node for node in model.graph.node if node.op_type == "Attention"]
    kind = TensorProto.FLOAT
    model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in attention.input[:3])
    target, source, values = draw(2, ground=0)
    target = np.concatenate([alone(target[:1], 4, 30), alone(target[1:], 4, 9, 12)])
    source = np.concatenate([alone(source[:1], 0), alone(source[1:], 23)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    _, query, key, value = session.run(None, dict(zip(INPUTS, (target, source, values), strict=True)))
    assert query.shape == (2, len({0, 4, 30, 9, 12}), 16 + 1)
    assert key.shape == (2, len({0, 23}), 16 + 1)
    assert value.shape == (2, len({0, 23}), 5)


def test_a_graph_without_a_correlation_stays() -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_function("outfitgan", "Other", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "plain", [info], [info])
    model = helper.make_model(graph, functions=[other])
    before = copy.deepcopy(model)
    assert leave_out_ground(model) == before


def test_a_graphs_nodes_and_other_functions_stay() -> None:
    model = one_node()
    opset = helper.make_opsetid("", OPSET)
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.insert(0, helper.make_function(DOMAIN, "Other", ["a"], ["b"], [node], [opset]))
    before = copy.deepcopy(model)
    assert leave_out_ground(model) is model
    assert model.graph == before.graph
    assert model.functions[0] == before.functions[0]
    names = [function.name for function in model.functions]
    assert sorted(names) == sorted({*names})
    assert model.functions[names.index(NAME)] != correlate_function()


@pytest.mark.parametrize(("runtime", "file"), [("openvino", "model.xml"), ("onnxruntime", "model.onnx")])
def test_engines_for_cpus_hold_it(runtime: str, file: str, tiny: ModelConfig, tmp_path: Path) -> None:
    torch.manual_seed(7)
    module, contract = AlignmentGraph(SemanticAlignment(tiny.generator)), alignment_contract(ItemKind.BAG, tiny)
    graph = export_graph(module, contract, "fp32", tmp_path / "alignment_bag.fp32.onnx")
    assert b"NonZero" not in graph.path.read_bytes()
    built = EngineStore(tmp_path / "engines").build(graph, runtime, "fp32")
    assert b"NonZero" in (built / file).read_bytes()

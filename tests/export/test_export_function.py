"""The body of `outfitgan::Correlate` against its definition written out in FP64."""

from __future__ import annotations

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

from engines.openvino.cpu import core
from export.correlate_function import DOMAIN, NAME, OPSET, VERSION, correlate_function, correlate_nodes
from outfitgan.ops.correlate.reference import reference

Array = NDArray[np.floating]
PLUGIN = {"plugin_namespace": "outfitgan", "plugin_version": "1", "aot": 1}


def one_node(dtype: type, temperature: float) -> onnx.ModelProto:
    kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
    shapes = {"target": "bchw", "source": "bcxy", "values": "bvxy", "warped": "bvhw"}
    infos = {name: helper.make_tensor_value_info(name, kind, list(axes)) for name, axes in shapes.items()}
    warped = infos.pop("warped")
    node = helper.make_node(NAME, list(infos), ["warped"], domain=DOMAIN, temperature=temperature, **PLUGIN)
    graph = helper.make_graph([node], "one", list(infos.values()), [warped])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, functions=[correlate_function()], opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def definition(target: Array, source: Array, values: Array, temperature: float) -> Array:
    flat = [x.astype(np.float64).reshape(*x.shape[:2], -1) for x in (target, source, values)]
    query, key, value = flat  # (B, C, N), (B, C, M), (B, Cv, M)
    norms = [np.maximum(np.sqrt((x**2).sum(1)), 1e-6) for x in (query, key)]
    cosine = np.einsum("bcn,bcm->bnm", query, key) / norms[0][:, :, None] / norms[1][:, None, :]
    weights = np.exp((cosine - cosine.max(-1, keepdims=True)) / temperature)
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bnm,bcm->bcn", weights, value).reshape(*values.shape[:2], *target.shape[2:])


def run(model: onnx.ModelProto, *arrays: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(("target", "source", "values"), arrays, strict=True)))[0]


def draw(dtype: type, batch: int = 2, channels: int = 16, grid: tuple[int, ...] = (5, 7, 4, 6)) -> list[Array]:
    generator = np.random.default_rng(batch * 1000 + channels)
    target = generator.standard_normal((batch, channels, *grid[:2]))
    source = generator.standard_normal((batch, channels, *grid[2:]))
    values = generator.uniform(-1, 1, (batch, 3, *grid[2:]))
    return [x.astype(dtype) for x in (target, source, values)]


# In FP16 the cosines over temperature are rounded to 11 bits, so the error grows as the temperature falls.
LIMITS = {
    np.float32: {1.0: 1e-6, 0.1: 2e-6, 0.05: 5e-6, 0.01: 2e-5},
    np.float16: {1.0: 1e-3, 0.1: 5e-3, 0.05: 1e-2, 0.01: 2e-2},
}


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.05, 0.01])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_body_follows_the_definition(dtype: type, temperature: float, batch: int) -> None:
    limit = LIMITS[dtype][temperature]
    arrays = draw(dtype, batch)
    found = run(one_node(dtype, temperature), *arrays)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, definition(*arrays, temperature), atol=limit, rtol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_body_agrees_with_onnx_own_evaluator(dtype: type) -> None:
    arrays = draw(dtype)
    model = one_node(dtype, 0.05)
    feeds = dict(zip(("target", "source", "values"), arrays, strict=True))
    evaluated = ReferenceEvaluator(model).run(None, feeds)[0]
    assert evaluated.dtype == dtype
    np.testing.assert_allclose(run(model, *arrays), evaluated, atol=1e-2 if dtype is np.float16 else 1e-5)


def test_body_agrees_with_the_op_of_the_networks() -> None:
    arrays = draw(np.float32)
    expected = reference(*map(torch.from_numpy, arrays), 0.05).numpy()
    np.testing.assert_allclose(run(one_node(np.float32, 0.05), *arrays), expected, atol=1e-5)


def test_openvino_runs_the_inlined_body() -> None:
    arrays = draw(np.float32)
    plain = inline_local_functions(one_node(np.float32, 0.05))
    model = core().read_model(plain.SerializeToString())
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(arrays)[0], definition(*arrays, 0.05), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 9),
    grid=st.tuples(*[st.integers(1, 6)] * 4),
    temperature=st.floats(0.01, 1.0),
)
def test_any_shape(batch: int, channels: int, grid: tuple[int, ...], temperature: float) -> None:
    arrays = draw(np.float32, batch, channels, grid)
    found = run(one_node(np.float32, temperature), *arrays)
    np.testing.assert_allclose(found, definition(*arrays, temperature), atol=5e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_zero_vectors_take_the_mean(dtype: type) -> None:
    target, source, values = draw(dtype)
    mean = values.astype(np.float64).mean((2, 3), keepdims=True)
    for zeroed in ((target * 0, source), (target, source * 0), (target * 0, source * 0)):
        found = run(one_node(dtype, 0.01), *zeroed, values)
        np.testing.assert_allclose(found, np.broadcast_to(mean, found.shape), atol=2e-3)


def test_tiny_vectors_are_clamped_not_blown_up() -> None:
    target, source, values = draw(np.float32)
    small = (target * 1e-8).astype(np.float32)
    found = run(one_node(np.float32, 0.05), small, source, values)
    np.testing.assert_allclose(found, definition(small, source, values, 0.05), atol=1e-5)
    assert np.abs(found - definition(target, source, values, 0.05)).max() > 0.05


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-5), (np.float16, 2e-2)])
def test_large_values_do_not_overflow(dtype: type, limit: float) -> None:
    target, source, values = draw(np.float32)
    arrays = [(x / np.abs(x).max() * 6e4).astype(dtype) for x in (target, source)] + [values.astype(dtype)]
    found = run(one_node(dtype, 0.01), *arrays)
    np.testing.assert_allclose(found, definition(*arrays, 0.01), atol=limit)


def test_exact_ties_share_equally() -> None:
    target, source, values = draw(np.float32)
    source[:] = source[:, :, :1, :1]  # a flat region: every position the same
    found = run(one_node(np.float32, 0.01), target, source, values)
    np.testing.assert_allclose(found, np.broadcast_to(values.mean((2, 3), keepdims=True), found.shape), atol=1e-4)


def test_near_ties_are_finite_and_between() -> None:
    target, source, values = draw(np.float32)
    source[:] = source[:, :, :1, :1] + np.float32(1e-6) * source
    found = run(one_node(np.float32, 0.01), target, source, values)
    assert np.isfinite(found).all()
    assert (found >= values.min()).all()
    assert (found <= values.max()).all()


def test_scale_of_the_features_does_not_matter() -> None:
    target, source, values = draw(np.float32)
    model = one_node(np.float32, 0.05)
    np.testing.assert_allclose(run(model, target * 37, source, values), run(model, target, source, values), atol=1e-5)


def test_temperature_is_read_from_the_node() -> None:
    arrays = draw(np.float32)
    sharp, soft = (run(one_node(np.float32, temperature), *arrays) for temperature in (0.01, 1.0))
    assert np.abs(sharp - soft).max() > 0.3


def test_node_is_found_by_domain_and_name() -> None:
    model = one_node(np.float32, 0.05)
    assert len(correlate_nodes(model)) == 1
    assert not correlate_nodes(inline_local_functions(model))

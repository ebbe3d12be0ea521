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
    norms = [np.sqrt((x**2).sum(1)) for x in (query, key)]
    asking, present = (norm > 1e-6 for norm in norms)  # (B, N), (B, M): vectors of zeros take no part
    asking = asking & present.any(-1, keepdims=True)
    lengths = [np.maximum(norm, 1e-6) for norm in norms]
    cosine = np.einsum("bcn,bcm->bnm", query, key) / lengths[0][:, :, None] / lengths[1][:, None, :]
    weights = np.exp((cosine - np.where(present[:, None], cosine, -1).max(-1, keepdims=True)) / temperature)
    weights = np.where(asking[:, :, None] & present[:, None], weights, 0)
    weights /= np.where(asking, weights.sum(-1), 1)[:, :, None]
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


def with_ground(arrays: list[Array], share: float) -> list[Array]:
    """Return copies with about `share` of each image's target and source positions zero."""
    generator = np.random.default_rng(5)
    kept = [generator.random((len(x), 1, *x.shape[2:])) >= share for x in arrays[:2]]
    return [x * k.astype(x.dtype) for x, k in zip(arrays[:2], kept, strict=True)] + arrays[2:]


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
    ground=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_any_shape(batch: int, channels: int, grid: tuple[int, ...], temperature: float, ground: float) -> None:
    arrays = with_ground(draw(np.float32, batch, channels, grid), ground)
    found = run(one_node(np.float32, temperature), *arrays)
    np.testing.assert_allclose(found, definition(*arrays, temperature), atol=5e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_zero_vectors_take_no_part(dtype: type, temperature: float) -> None:
    target, source, values = draw(dtype, 3)
    first = np.array([0, 1, 1], dtype).reshape(-1, 1, 1, 1)  # without the first image
    some = with_ground([target, source, values], 0.7)
    model, limit = one_node(dtype, temperature), LIMITS[dtype][temperature]
    cases = [(target * 0, source), (target, source * 0), (target * 0, source * 0), (some[0], some[1])]
    for zeroed in [*cases, (target * first, source), (target, source * first)]:
        found, expected = run(model, *zeroed, values), definition(*zeroed, values, temperature)
        np.testing.assert_allclose(found, expected, atol=limit, rtol=0)
        assert not found[expected == 0].any()
        wild = np.where(zeroed[1].any(1, keepdims=True), values, dtype(6e4))  # a weight of 0 takes any value
        np.testing.assert_array_equal(run(model, *zeroed, wild), found)


def opposites(dtype: type) -> list[Array]:
    """Return a source of one position of value 0.5, opposite to all of the target, beside zero vectors of 6e4."""
    target, source, values = np.zeros((1, 16, 32, 40)), np.zeros((1, 16, 33, 41)), np.full((1, 3, 33, 41), 6e4)
    target[:, 0], source[:, 0, 7, 9], values[..., 7, 9] = 1, -1, 0.5
    return [x.astype(dtype) for x in (target, source, values)]


@pytest.mark.parametrize("temperature", [1.0, 0.01])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_even_opposites_outweigh_zero_vectors(dtype: type, temperature: float) -> None:
    assert (run(one_node(dtype, temperature), *opposites(dtype)) == 0.5).all()


def test_vectors_up_to_a_millionth_long_are_zero() -> None:
    target, source, values = draw(np.float32)
    expected = definition(target, source, values, 0.05)
    target, source = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (target, source))
    for length, limit in ((1.1e-6, 1e-5), (0.9e-6, None)):
        for features in ((target * np.float32(length), source), (target, source * np.float32(length))):
            found = run(one_node(np.float32, 0.05), *features, values)
            np.testing.assert_allclose(found, 0 if limit is None else expected, atol=limit or 0, rtol=0)


def test_what_is_not_a_number_is_seen() -> None:
    """In a source it reaches its image, in a target its own position."""
    target, source, values = draw(np.float32)
    target[0, 3, 1, 2] = source[1, 3, 1, 1] = np.nan
    expected = np.zeros((2, 3, 5, 7), bool)
    expected[0, :, 1, 2] = expected[1] = True
    np.testing.assert_array_equal(np.isnan(run(one_node(np.float32, 0.05), target, source, values)), expected)


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

"""The operator's torch implementations against its definition, written out in numpy at double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from correlation_cases import (
    DTYPES,
    HALVES,
    IMPLEMENTATIONS,
    attention,
    error,
    features,
    tolerance,
    wide,
    with_ground,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import profile

from outfitgan.errors import InputError
from outfitgan.ops.correlate.dispatch import Implementation, best_match, correlate
from outfitgan.ops.correlate.reference import reference

GRIDS = {"same": ((6, 5), (6, 5)), "larger source": ((3, 4), (7, 6)), "one target": ((1, 1), (5, 5))}


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("grids", GRIDS)
def test_matches_the_definition(
    impl: Implementation, dtype: torch.dtype, temperature: float, batch: int, grids: str
) -> None:
    for value_channels in (16, 5, 24):
        tensors = features(7, batch, 16, value_channels, *GRIDS[grids], dtype=dtype)
        limit = tolerance(impl, dtype, temperature)
        assert error(correlate(*tensors, temperature, impl), *tensors, temperature) < limit


@pytest.mark.parametrize("impl", ["auto", *IMPLEMENTATIONS])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_layout_in_memory_changes_nothing(impl: Implementation, dtype: torch.dtype) -> None:
    tensors = features(3, 3, 8, 12, (5, 6), (6, 4), dtype)
    expected = correlate(*tensors, 0.05, impl)
    layouts: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
        lambda x: torch.cat([x, x * 100], dim=1)[:, : x.shape[1]],
        lambda x: x.flip(0).clone().flip(0),
    ]
    for change in layouts:
        moved = [change(tensor) for tensor in tensors]
        assert all(torch.equal(a, b) for a, b in zip(moved, tensors, strict=True))
        changed = correlate(moved[0], moved[1], moved[2], 0.05, impl)
        torch.testing.assert_close(changed, expected, atol=2 * tolerance(impl, dtype, 0.05, 8), rtol=0)
    one, source, values = tensors[0][:1].expand(3, -1, -1, -1), *tensors[1:]  # a stride of 0
    limit = tolerance(impl, dtype, 0.05, 8)
    assert error(correlate(one, source, values, 0.05, impl), one, source, values, 0.05) < limit


def test_auto_is_sdpa_where_nothing_is_exported() -> None:
    tensors = features(5, value_channels=7)
    assert torch.equal(correlate(*tensors, 0.05), correlate(*tensors, 0.05, "sdpa"))
    assert torch.equal(correlate(*tensors, 0.05, "reference"), reference(*tensors, 0.05))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 6e4])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_magnitude_costs_no_accuracy_in_fp32(impl: Implementation, scale: float, offset: float) -> None:
    target, source, values = features(11, channels=64, value_channels=64)
    target, source = (target + offset) * scale, (source + offset) * scale
    limit = tolerance(impl, torch.float32, 0.01)
    assert error(correlate(target, source, values, 0.01, impl), target, source, values, 0.01) < limit


@pytest.mark.parametrize("seed", range(5))
def test_fp16_keeps_the_accuracy_that_the_graphs_promise(seed: int) -> None:
    """At a width of 64 and the sharpest temperature: 1e-2 for what rounds unit vectors to FP16."""
    tensors = features(seed, 2, 64, 64, (16, 16), (16, 16), torch.float16)
    assert error(correlate(*tensors, 0.01, "sdpa"), *tensors, 0.01) < 1e-2
    assert error(correlate(*tensors, 0.01, "reference"), *tensors, 0.01) < 1e-3


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_largest_halves_do_not_overflow(impl: Implementation, dtype: torch.dtype) -> None:
    target, source, values = features(12, channels=64)
    target, source = (target.sign() * 6e4).to(dtype), (source.sign() * 6e4).to(dtype)
    warped = correlate(target, source, values.to(dtype), 0.01, impl)
    assert torch.isfinite(warped).all()
    assert error(warped, target, source, values.to(dtype), 0.01) < tolerance(impl, dtype, 0.01, 64)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_near_ties_are_told_apart_or_shared(impl: Implementation, dtype: torch.dtype) -> None:
    """Every key is nearly the same, and some are exactly: the weights hang on the last digits of the cosines."""
    draw = np.random.default_rng(2)
    common = draw.normal(size=(1, 16, 1, 1))
    source = torch.from_numpy(common + 1e-3 * draw.normal(size=(1, 16, 6, 5)))
    source[..., 3:, :] = source[..., :3, :]
    target = torch.from_numpy(common + 1e-3 * draw.normal(size=(1, 16, 2, 3)))
    values = torch.from_numpy(draw.uniform(-1, 1, size=(1, 16, 6, 5)))
    target, source, values = target.to(dtype), source.to(dtype), values.to(dtype)
    warped = correlate(target, source, values, 0.01, impl)
    assert error(warped, target, source, values, 0.01) < tolerance(impl, dtype, 0.01)


@pytest.mark.parametrize("widths", [(64, 64), (15, 16), (3, 30)])
def test_sdpa_takes_one_width_of_a_multiple_of_8(widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Others a GPU refuses to its kernels that hold no matrix."""
    seen: list[int] = []

    def attend(query: Tensor, key: Tensor, value: Tensor, **options: float) -> Tensor:
        seen.extend(x.shape[-1] for x in (query, key, value))
        return torch.zeros_like(query)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attend)
    correlate(*features(0, 1, *widths), 0.05, "sdpa")
    assert len({*seen}) == 1
    assert seen[0] % 8 == 0


@pytest.mark.parametrize("value_channels", [16, 5, 24])
def test_sdpa_never_holds_the_matrix(value_channels: int) -> None:
    grid = (32, 32)
    tensors = features(1, 1, 16, value_channels, grid, grid)
    matrix = (32 * 32) ** 2 * 4

    def largest(impl: Implementation) -> int:
        with profile(profile_memory=True) as record:
            correlate(*tensors, 0.05, impl)
        return max(int(event.cpu_memory_usage) for event in record.events())

    assert largest("reference") >= matrix
    assert largest("sdpa") < matrix / 4


@pytest.mark.parametrize("value_channels", [6, 3, 8])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_gradients_are_those_of_finite_differences(impl: Implementation, value_channels: int) -> None:
    tensors = features(8, 2, 6, value_channels, (2, 3), (3, 2), torch.float64)
    leaves = tuple(tensor.requires_grad_() for tensor in tensors)
    assert torch.autograd.gradcheck(lambda t, s, v: correlate(t, s, v, 0.2, impl), leaves, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
def test_sdpa_learns_what_the_reference_learns(temperature: float) -> None:
    tensors = features(9, 3, 16, 12, (6, 5), (4, 7))
    upstream = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12, 6, 5))).float()

    def gradients(impl: Implementation) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        (correlate(leaves[0], leaves[1], leaves[2], temperature, impl) * upstream).sum().backward()  # type: ignore[no-untyped-call]
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    pairs = list(zip(gradients("sdpa"), gradients("reference"), strict=True))
    assert len(pairs) == 3
    for found, expected in pairs:
        assert expected.abs().max() > 0
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, s, v: (t[0], s, v), r"takes \(batch, channels, height, width\).*target \(4, 3, 3\)"),
        (lambda t, s, v: (t, s, v[..., None]), r"takes \(batch, channels, height, width\)"),
        (lambda t, s, v: (t[:, :3], s, v), "one batch and one channel count"),
        (lambda t, s, v: (t[:1], s, v), "one batch and one channel count"),
        (lambda t, s, v: (t, s, v[:1]), "values at every source position"),
        (lambda t, s, v: (t, s, v[..., :2]), "values at every source position"),
        (lambda t, s, v: (t, s.half(), v), "one dtype.*source torch.float16.*cast them"),
        (lambda t, s, v: (t, s, v.double()), "one dtype.*values torch.float64.*cast them"),
        (lambda t, s, v: (t, s.to("meta"), v), "one device.*source meta.*move them"),
        (lambda t, s, v: (t[:0], s[:0], v[:0]), "at least one image, channel and position"),
        (lambda t, s, v: (t[:, :0], s[:, :0], v), "at least one image, channel and position"),
        (lambda t, s, v: (t[..., :0], s, v), r"at least one image.*target \(2, 4, 3, 0\)"),
        (lambda t, s, v: (t, s[:, :, :0], v[:, :, :0]), "at least one image, channel and position"),
    ],
)
@pytest.mark.parametrize("impl", ["auto", "fused", *IMPLEMENTATIONS])
def test_refuses_tensors_that_do_not_fit(
    impl: Implementation, change: Callable[..., tuple[Tensor, Tensor, Tensor]], message: str
) -> None:
    tensors = features(0, 2, 4, 4, (3, 3), (3, 3))
    with pytest.raises(InputError, match=message):
        correlate(*change(*tensors), 0.05, impl)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_refuses_a_temperature_that_is_not_above_zero(temperature: float) -> None:
    target, source, values = features(0)
    for impl in ("fused", *IMPLEMENTATIONS):
        with pytest.raises(InputError, match=f"temperature above 0, not {temperature}"):
            correlate(target, source, values, temperature, impl)
    with pytest.raises(InputError, match="temperature above 0"):
        best_match(target, source, temperature)


def test_refuses_an_implementation_it_has_not() -> None:
    with pytest.raises(InputError, match=r"no correlate implementation 'magic'; .*sdpa or fused"):
        correlate(*features(0), 0.05, "magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no best_match implementation 'sdpa'; choose auto, reference or fused"):
        best_match(*features(0)[:2], 0.05, "sdpa")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one batch and one channel count"):
        best_match(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3), 0.05)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
@pytest.mark.parametrize(("target_grid", "source_grid"), [((3, 5), (4, 6)), ((41, 53), (7, 5)), ((32, 32), (3, 3))])
def test_best_match_is_the_row_maximum(
    dtype: torch.dtype, temperature: float, target_grid: tuple[int, int], source_grid: tuple[int, int]
) -> None:
    """41 x 53 positions are three chunks of 1024, the last of them short; 32 x 32 are one, to the row."""
    target, source, _ = features(13, 2, 16, 1, target_grid, source_grid, dtype)
    index, weight = best_match(target, source, temperature)
    weights = attention(wide(target), wide(source), temperature)
    assert index.shape == weight.shape == (2, *target_grid)
    assert (index.dtype, weight.dtype) == (torch.int64, torch.float32)
    np.testing.assert_allclose(weight.reshape(2, -1).numpy(), weights.max(-1), atol=1e-4)
    flat = index.reshape(2, -1)
    chosen = np.take_along_axis(weights, flat.numpy()[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, weights.max(-1), atol=1e-6)  # two keys may tie to the last digit
    assert (flat.numpy() == weights.argmax(-1)).mean() > 0.999


def test_best_match_agrees_with_the_warp() -> None:
    """Carrying each source position's one-hot value over gives the whole row of weights."""
    target, source, _ = features(14, 2, 8, 1, (40, 30), (4, 5))
    one_hot = torch.eye(20).reshape(1, 20, 4, 5).expand(2, -1, -1, -1)
    rows = correlate(target, source, one_hot, 0.05)  # (B, 20, H, W)
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(2, 40, 30), atol=1e-5, rtol=0)
    index, weight = best_match(target, source, 0.05)
    assert torch.equal(rows.argmax(dim=1), index)
    torch.testing.assert_close(rows.max(dim=1).values, weight, atol=1e-5, rtol=0)


shapes = st.tuples(*(st.integers(1, high) for high in (3, 9, 9, 5, 5, 5, 5)))
temperatures = st.sampled_from([1.0, 0.1, 0.01])
implementations = st.sampled_from(IMPLEMENTATIONS)


def drawn(seed: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    batch, channels, value_channels, height, width, rows, columns = shape
    return features(seed, batch, channels, value_channels, (height, width), (rows, columns), torch.float64)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=shapes,
    temperature=temperatures,
    impl=implementations,
    ground=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_any_shape_matches_the_definition(
    seed: int, shape: tuple[int, ...], temperature: float, impl: Implementation, ground: float
) -> None:
    tensors = with_ground(*drawn(seed, shape), ground, seed)
    assert error(correlate(*tensors, temperature, impl), *tensors, temperature) < 1e-10


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=shapes,
    temperature=temperatures,
    impl=implementations,
    scales=st.tuples(st.floats(1e-2, 1e4), st.floats(1e-2, 1e4)),
)
def test_a_positive_scale_changes_nothing(
    seed: int, shape: tuple[int, ...], temperature: float, impl: Implementation, scales: tuple[float, float]
) -> None:
    target, source, values = drawn(seed, shape)
    scaled = correlate(target * scales[0], source * scales[1], values, temperature, impl)
    torch.testing.assert_close(scaled, correlate(target, source, values, temperature, impl), atol=1e-9, rtol=0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), shape=shapes, temperature=temperatures, impl=implementations)
def test_the_order_of_source_positions_does_not_matter(
    seed: int, shape: tuple[int, ...], temperature: float, impl: Implementation
) -> None:
    target, source, values = drawn(seed, shape)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(source[0, 0].numel()))
    moved = [x.flatten(2)[..., order].reshape(x.shape) for x in (source, values)]
    warped = correlate(target, moved[0], moved[1], temperature, impl)
    torch.testing.assert_close(warped, correlate(target, source, values, temperature, impl), atol=1e-10, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=shapes,
    temperature=temperatures,
    impl=implementations,
    constant=st.floats(-100, 100),
)
def test_constant_values_stay_constant(
    seed: int, shape: tuple[int, ...], temperature: float, impl: Implementation, constant: float
) -> None:
    target, source, values = drawn(seed, shape)
    warped = correlate(target, source, torch.full_like(values, constant), temperature, impl)
    torch.testing.assert_close(warped, torch.full_like(warped, constant), atol=1e-10, rtol=1e-12)

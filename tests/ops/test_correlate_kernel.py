"""The fused kernels, interpreted, against the definition at double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import triton.language as tl
from correlation_cases import ZERO_CASES, attention, error, features, opposites, wide, with_ground, zero_cases
from fused_cases import BROAD, DTYPES, SMALL, constant_case, fused, fused_match, tolerance
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton.runtime.interpreter import interpreter_builder

from outfitgan.ops.correlate.kernel import best_match_strided, correlate_packed
from outfitgan.ops.correlate.launch import launch_correlate, tuned

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's own, of numpy

LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def laid_out(tensors: tuple[Tensor, ...], layout: str) -> list[Tensor]:
    return [tensor.to(memory_format=LAYOUTS[layout]) for tensor in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_the_definition(dtype: torch.dtype, temperature: float, layout: str) -> None:
    """21 queries and 40 keys fill no tile; 48 channels are three chunks and 32 values two slices, or each one tile."""
    for batch, tiles in ((1, SMALL), (3, BROAD)):
        tensors = laid_out(features(7, batch, 48, 32, (3, 7), (8, 5), dtype), layout)
        assert error(fused(*tensors, temperature, tiles), *tensors, temperature) < tolerance(dtype, temperature)


@pytest.mark.parametrize("seed", range(3))
def test_fp16_keeps_within_two_thousandths(seed: int) -> None:
    """At a width of 64, the sharpest temperature and the tiles that are taken unasked: what the docs promise."""
    tensors = features(seed, 1, 64, 64, (12, 11), (13, 9), torch.float16)
    assert error(fused(*tensors, 0.01, None), *tensors, 0.01) < tolerance(torch.float16, 0.01) < 2e-3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("widths", [(16, 16), (64, 128), (256, 256), (16, 256), (256, 16), (48, 80), (5, 7), (100, 1)])
def test_every_width_up_to_256(dtype: torch.dtype, widths: tuple[int, int]) -> None:
    """Also widths that are no multiple of 16: the tile's spare channels are masked."""
    tensors = features(1, 1, *widths, (3, 7), (7, 5), dtype)
    assert error(fused(*tensors, 0.02, None), *tensors, 0.02) < tolerance(dtype, 0.02)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e-4, 6e4])
@pytest.mark.parametrize("what", ["features", "signs"])
def test_magnitude_costs_no_accuracy(dtype: torch.dtype, scale: float, what: str) -> None:
    """Squares and products of 6e4 overflow FP16, those of 1e-4 vanish in it."""
    target, source, values = features(11, 1, 64, 16, (5, 4), (5, 7), torch.float32)
    target, source = (x.sign() if what == "signs" else x.clamp(-1, 1) for x in (target, source))
    tensors = [(x * scale).to(dtype) for x in (target, source)] + [values.to(dtype)]
    assert error(fused(*tensors, 0.01), *tensors, 0.01) < tolerance(dtype, 0.01)


def test_values_of_6e4_do_not_overflow() -> None:
    """A thousand of them add up to far more than FP16 holds, before they are divided."""
    target, source, _ = features(2, 1, 16, 1, (2, 3), (25, 40), torch.float16)
    source[:] = source[:, :, :1, :1].clone()
    values = torch.full((1, 16, 25, 40), 6e4, dtype=torch.float16)
    assert torch.equal(fused(target, source, values, 0.01, BROAD), torch.full((1, 16, 2, 3), 6e4).half())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_near_ties_are_told_apart_or_shared(dtype: torch.dtype) -> None:
    """Every key is nearly the same, and some are exactly: the weights hang on the last digits of the cosines."""
    draw = np.random.default_rng(2)
    common = draw.normal(size=(1, 32, 1, 1))
    source = torch.from_numpy(common + 1e-3 * draw.normal(size=(1, 32, 8, 5)))
    source[..., 4:, :] = source[..., :4, :]
    target = torch.from_numpy(common + 1e-3 * draw.normal(size=(1, 32, 2, 3)))
    values = torch.from_numpy(draw.uniform(-1, 1, size=(1, 16, 8, 5)))
    tensors = [tensor.to(dtype) for tensor in (target, source, values)]
    assert error(fused(*tensors, 0.01), *tensors, 0.01) < tolerance(dtype, 0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flat_regions_share_their_weight(dtype: torch.dtype) -> None:
    """A binary mask's inside is one vector everywhere: half the source is the same key, and all queries are."""
    target, source, values = features(5, 2, 32, 16, (5, 5), (6, 8), dtype)
    target[:] = target[:, :, :1, :1].clone()
    source[..., :4] = source[..., :1, :1].clone()
    tensors = target, source, values
    warped = fused(*tensors, 0.01)
    assert error(warped, *tensors, 0.01) < tolerance(dtype, 0.01)
    torch.testing.assert_close(warped, warped[:, :, :1, :1].expand_as(warped), atol=tolerance(dtype, 0.01), rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("which", ZERO_CASES)
def test_zero_vectors_take_no_part(dtype: torch.dtype, which: str) -> None:
    """45 keys are three tiles, of which the only key may be in the first or the last."""
    target, source, values = zero_cases(*features(4, 2, 32, 16, (4, 5), (5, 9), dtype))[which]
    temperature = 1.0  # at which all weights are of one order
    warped = fused(target, source, values, temperature)
    assert error(warped, target, source, values, temperature) < tolerance(dtype, temperature)
    weights = attention(wide(target), wide(source), temperature)
    assert torch.equal(warped.any(dim=1).flatten(1), torch.from_numpy(weights.any(-1)))
    wild = torch.where(source.any(dim=1, keepdim=True), values, 6e4)  # a weight of 0 takes any value
    assert torch.equal(fused(target, source, wild, temperature), warped)
    index, weight = fused_match(target, source, temperature)
    assert (index.flatten(1).numpy() == weights.argmax(-1)).all()
    np.testing.assert_allclose(weight.flatten(1), weights.max(-1), atol=tolerance(torch.float32, temperature))
    assert torch.equal(weight.flatten(1) > 0, torch.from_numpy(weights.any(-1)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_even_opposites_outweigh_zero_vectors(dtype: torch.dtype) -> None:
    for temperature in (1.0, 0.01):
        assert (fused(*opposites(dtype), temperature) == 0.5).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_vectors_up_to_a_millionth_long_are_zero(dtype: torch.dtype) -> None:
    """Halves too: FP16's least number is 6e-8."""
    target, source, values = (x.to(dtype) for x in features(6, 1, 16, 16, (5, 5), (5, 5)))
    axis = torch.zeros(1, 16, 1, 1).to(dtype)
    axis[:, 3] = 1
    for length, zero in ((9e-7, True), (1.1e-6, False)):
        for tensors in ((axis * length + target * 0, source, values), (target, axis * length + source * 0, values)):
            warped = fused(*tensors, 0.05)
            assert error(warped, *tensors, 0.05) < tolerance(dtype, 0.05)
            assert warped.any() == (not zero)
            assert fused_match(*tensors[:2], 0.05)[1].any() == (not zero)


@pytest.mark.parametrize("kernel", ["correlate", "best match"])
def test_a_tile_of_zero_queries_multiplies_nothing(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 48 queries and 48 keys, three tiles each: a tile's products are one a tile of keys, with the values two."""
    products: list[int] = []
    multiply = interpreter_builder.create_dot
    monkeypatch.setattr(interpreter_builder, "create_dot", lambda *given: products.append(1) or multiply(*given))
    target, source, values = features(6, 1, 16, 16, (6, 8), (6, 8))

    def count(target: Tensor) -> int:
        products.clear()
        if kernel == "correlate":
            fused(target, source, values, 0.05)
        else:
            fused_match(target, source, 0.05)
        return len(products)

    tile = count(target) // 3
    assert tile == 3 * (2 if kernel == "correlate" else 1)
    target[:, :, 2:4] = 0  # the second of three
    assert count(target) == 2 * tile
    target[:, :, 3, 7] = 1
    assert count(target) == 3 * tile
    assert count(target * 0) == 0


def test_constant_values_stay_constant_to_the_last_bit() -> None:
    """Were the weights rounded for the product and not for the sum, they would not add up to 1."""
    target, source, values, temperature = constant_case()
    assert torch.equal(fused(target, source, values, temperature), values[..., :1, :1].expand(1, 16, 5, 4))


def test_a_sharp_temperature_takes_the_best_alone() -> None:
    """At 1e-3 scores reach 1443 powers of two: only a difference to the best can be raised."""
    target, source, values = features(3, 1, 32, 16, (5, 4), (6, 7))
    best = attention(wide(target), wide(source), 1e-6).argmax(-1)[0]
    warped = fused(target, source, values, 1e-6)[0].flatten(1)
    torch.testing.assert_close(warped, values[0].flatten(1)[:, torch.from_numpy(best)], atol=1e-6, rtol=0)
    tensors = target, source, values
    assert error(fused(*tensors, 1e-3), *tensors, 1e-3) < tolerance(torch.float32, 1e-3)


def test_any_strides_give_the_same_bits() -> None:
    tensors = features(3, 2, 24, 16, (5, 6), (6, 4), torch.float16)
    expected, matched = fused(*tensors, 0.05), fused_match(*tensors[:2], 0.05)
    changes: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
        lambda x: torch.cat([x * 100, x, x * 100], dim=1)[:, x.shape[1] : 2 * x.shape[1]],
        lambda x: torch.cat([x, x * 100]).as_strided(x.shape, x.stride()),
        lambda x: x.repeat_interleave(3, dim=1)[:, ::3],
        lambda x: x.flip(0).clone().flip(0),
    ]
    for change in changes:
        moved = [change(tensor) for tensor in tensors]
        assert all(torch.equal(a, b) for a, b in zip(moved, tensors, strict=True))
        assert torch.equal(fused(*moved, 0.05), expected)
        assert all(map(torch.equal, fused_match(*moved[:2], 0.05), matched))
    one = tensors[0][:1].expand(2, -1, -1, -1)  # a stride of 0
    assert torch.equal(fused(one, *tensors[1:], 0.05), fused(one.contiguous(), *tensors[1:], 0.05))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_result_is_written_in_either_layout(layout: str) -> None:
    tensors = features(8, 2, 16, 20, (5, 3), (4, 4))
    warped = torch.full((2, 20, 5, 3), torch.nan).to(memory_format=LAYOUTS[layout])
    launch_correlate(*tensors, 0.05, warped, SMALL)
    assert torch.equal(warped, fused(*tensors, 0.05))
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        launch_correlate(*tensors, 0.05, torch.empty(2, 20, 3, 5).transpose(2, 3), SMALL)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*(st.integers(1, high) for high in (3, 40, 40, 6, 6, 6, 6))),
    temperature=st.sampled_from([1.0, 0.1, 0.01]),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(list(LAYOUTS)),
    ground=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_any_shape_matches_the_definition(
    seed: int, shape: tuple[int, ...], temperature: float, dtype: torch.dtype, layout: str, ground: float
) -> None:
    batch, channels, value_channels, height, width, rows, columns = shape
    drawn = features(seed, batch, channels, value_channels, (height, width), (rows, columns), dtype)
    tensors = laid_out(with_ground(*drawn, ground, seed), layout)
    assert error(fused(*tensors, temperature), *tensors, temperature) < tolerance(dtype, temperature)
    index, weight = fused_match(*tensors[:2], temperature)
    weights = attention(wide(tensors[0]), wide(tensors[1]), temperature)
    np.testing.assert_allclose(weight.flatten(1), weights.max(-1), atol=tolerance(torch.float32, temperature))
    chosen = np.take_along_axis(weights, index.flatten(1).numpy()[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, weights.max(-1), atol=tolerance(torch.float32, temperature))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_best_match_is_the_row_maximum(dtype: torch.dtype, temperature: float) -> None:
    target, source, _ = features(13, 2, 48, 1, (5, 7), (9, 6), dtype)
    index, weight = fused_match(target, source, temperature)
    weights = attention(wide(target), wide(source), temperature)
    assert (index.flatten(1).numpy() == weights.argmax(-1)).all()
    np.testing.assert_allclose(weight.flatten(1), weights.max(-1), atol=tolerance(torch.float32, temperature))


def test_best_match_takes_the_first_of_equals() -> None:
    """Within a tile of 16 keys and over tiles: all 40 are the same, and then the last 20 are the best."""
    target, source, _ = features(13, 1, 16, 1, (3, 2), (8, 5))
    index, weight = fused_match(target, source[..., :1, :1].expand(1, 16, 8, 5), 0.01)
    assert torch.equal(index, torch.zeros(1, 3, 2, dtype=torch.int64))
    torch.testing.assert_close(weight, torch.full((1, 3, 2), 1 / 40))
    source[..., 4:, :] = 2 * target[..., :1, :1]
    assert int(fused_match(target, source, 0.01)[0][0, 0, 0]) == 20
    source[..., :5, :] = 0
    assert int(fused_match(target, source, 0.01)[0][0, 0, 0]) == 25


def test_what_is_not_a_number_stays_in_its_own_image() -> None:
    """One in a key reaches all of its image, one in a query its own position; no index leaves the source."""
    target, source, values = features(9, 3, 16, 16, (3, 6), (3, 7))
    for wrong in (torch.inf, torch.nan):
        source[1, 3, 1, 1] = wrong
        index, weight = fused_match(target, source, 0.05)
        assert bool(((index >= 0) & (index < 21)).all())
        assert weight[1].isnan().all()
        assert not weight[::2].isnan().any()
    expected = torch.zeros(3, 1, 3, 6, dtype=torch.bool)
    expected[0, :, 1, 2] = expected[1] = True
    for wrong in (torch.inf, torch.nan):
        target[0, 3, 1, 2] = source[1, 3, 1, 1] = wrong
        assert torch.equal(fused(target, source, values, 0.05).isnan(), expected.expand(-1, 16, -1, -1))
    target[1, :, 0] = 0
    expected[1, :, 0] = False
    assert torch.equal(fused(target, source, values, 0.05).isnan(), expected.expand(-1, 16, -1, -1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_compiled_ahead_of_time_computes_the_same_bits(layout: str) -> None:
    """The entry with TensorRT's arguments: packed tensors of one layout, and the temperature a constant."""
    tensors = laid_out(with_ground(*features(15, 2, 48, 32, (3, 7), (4, 6), torch.float16), 0.4), layout)
    warped = torch.full((2, 32, 3, 7), torch.nan).half().to(memory_format=LAYOUTS[layout])
    constants = {"TEMPERATURE": 0.02, "CHANNELS_LAST": layout == "channels last", "PRODUCT": tl.float16}
    correlate_packed[(2, 2, 2)](*tensors, 21, 24, warped, C=48, CV=32, **constants, **SMALL.constants())
    assert torch.equal(warped, fused(*tensors, 0.02))


def test_of_several_tiles_the_fastest_is_taken_and_timed_once() -> None:
    """The autotuner's wiring, with a clock of the test's: under the interpreter time says nothing."""
    candidates = [SMALL, replace(SMALL, queries=32), replace(SMALL, keys=32)]
    times = iter([3.0, 1.0, 2.0])

    def bench(call: Callable[[], object], quantiles: object) -> list[float]:
        call()
        return [next(times)] * 3

    kernel = tuned(best_match_strided, candidates, bench)
    target, source, _ = features(0, 1, 16, 1, (5, 5), (4, 5))
    queries, keys, expected = target.flatten(2), source.flatten(2), fused_match(target, source, 0.05)
    for _ in range(2):
        index, weight = torch.full((1, 5, 5), -1), torch.full((1, 5, 5), torch.nan)
        kernel[lambda constants: (math.ceil(25 / constants["BLOCK_QUERIES"]), 1)](
            queries, keys, 25, 20, index, weight, queries.stride(), keys.stride(), 0.05, C=16, PRODUCT=tl.float32
        )
        assert torch.equal(index, expected[0])
        torch.testing.assert_close(weight, expected[1])
    assert next(times, None) is None
    assert kernel.best_config.kwargs["BLOCK_QUERIES"] == 32

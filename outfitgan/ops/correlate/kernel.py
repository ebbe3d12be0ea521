"""The correlation in the Triton kernel language: one pass over the source, with the softmax computed on the way.

A program takes R target positions of one image and V of their value channels, and walks over the source K positions at
a time, D matching channels a product. It keeps the best score so far, the sum of the weights and the weighted sum of
the values, so the (N, M) matrix never exists. The products are those of the raw features, exact in FP32 for halves;
both norms scale them afterwards, in FP32.

Names in capitals are constants of a compilation. Strides are (batch, channel, position), so every layout is one code.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# The kernel language compiles this text; its tensors have no Python types.

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

MIN_SQUARE = tl.constexpr(1e-12)
"""The square of the reference's MIN_NORM: vectors that are no longer are zero, and take no part."""

EXCLUDED = tl.constexpr(-1e30)
"""The score of a zero source position: finite, so that a difference of two is no NaN, and any cosine vanishes in it."""

LOG2_E = tl.constexpr(1.4426950408889634)
"""Weights are powers of two, as the hardware computes them: exp(x) = exp2(x * LOG2_E)."""


class View(NamedTuple):
    """The features of one image: (positions, channels) numbers somewhere in memory."""

    base: Any
    strides: Any
    count: Any  # of positions


@triton.jit
def correlate_strided(
    target,  # (B, C, N)
    source,  # (B, C, M)
    values,  # (B, CV, M)
    queries,  # N
    keys,  # M
    warped,  # (B, CV, N)
    target_strides,
    source_strides,
    values_strides,
    warped_strides,
    temperature,
    C: tl.constexpr,
    CV: tl.constexpr,
    PRODUCT: tl.constexpr,  # the dtype that tiles are multiplied in, which holds theirs
    BLOCK_QUERIES: tl.constexpr,  # R
    BLOCK_KEYS: tl.constexpr,  # K
    BLOCK_CHANNELS: tl.constexpr,  # D
    BLOCK_VALUES: tl.constexpr,  # V
):
    """Warp `values` onto the target's positions."""
    image = tl.program_id(1).to(tl.int64)  # 32 bits do not count the elements of a large batch
    targets = View(target + image * target_strides[0], target_strides, queries)
    sources = View(source + image * source_strides[0], source_strides, keys)
    carried = View(values + image * values_strides[0], values_strides, keys)
    rows = tl.program_id(0) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)  # (R,)
    channel = tl.program_id(2) * BLOCK_VALUES
    query, sharpness, zero = _query(targets, rows, temperature, C, BLOCK_CHANNELS)
    end = tl.where(tl.min(zero.to(tl.int32)) > 0, 0, keys)  # nothing to do for zero vectors alone
    best = tl.full((BLOCK_QUERIES,), float("-inf"), tl.float32)  # (R,)
    total = tl.zeros((BLOCK_QUERIES,), tl.float32)  # (R,)
    mixed = tl.zeros((BLOCK_QUERIES, BLOCK_VALUES), tl.float32)  # (R, V)
    for start in tl.range(0, end, BLOCK_KEYS):
        columns = start + tl.arange(0, BLOCK_KEYS)  # (K,)
        scores = _scores(query, sharpness, targets, rows, sources, columns, C, PRODUCT, BLOCK_CHANNELS)  # (R, K)
        top = tl.maximum(best, tl.max(scores, 1))
        fade = tl.exp2(best - top)
        weights = tl.exp2(scores - top[:, None]).to(values.dtype.element_ty)
        # Ours: the rounded weights are summed too, so that they add up to 1 and constant values stay constant.
        total = total * fade + tl.sum(weights.to(tl.float32), 1)
        value = _tile(carried, columns, channel, CV, BLOCK_VALUES)  # (K, V)
        mixed = tl.dot(weights.to(PRODUCT), value.to(PRODUCT), mixed * fade[:, None], input_precision="tf32x3")
        best = top
    channels = channel + tl.arange(0, BLOCK_VALUES)
    places = rows[:, None] * warped_strides[2] + channels[None, :] * warped_strides[1]
    inside = (rows < queries)[:, None] & (channels < CV)[None, :]
    unmatched = zero | (best == EXCLUDED)
    mixed = tl.where(unmatched[:, None], 0.0, mixed / total[:, None]).to(warped.dtype.element_ty)
    tl.store(warped + image * warped_strides[0] + places, mixed, mask=inside)


@triton.jit
def correlate_packed(
    target,
    source,
    values,
    queries,
    keys,
    warped,
    TEMPERATURE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    C: tl.constexpr,
    CV: tl.constexpr,
    PRODUCT: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_VALUES: tl.constexpr,
):
    """Warp packed tensors, all of one layout: what is compiled ahead of time.

    The order of the arguments is TensorRT's: inputs, integers, outputs; it passes no float, so the temperature is a
    constant. The strides follow from the counts.
    """
    if CHANNELS_LAST:
        target_strides = (queries * C, 1, C)
        source_strides = (keys * C, 1, C)
        values_strides = (keys * CV, 1, CV)
        warped_strides = (queries * CV, 1, CV)
    else:
        target_strides = (queries * C, queries, 1)
        source_strides = (keys * C, keys, 1)
        values_strides = (keys * CV, keys, 1)
        warped_strides = (queries * CV, queries, 1)
    correlate_strided(
        target,
        source,
        values,
        queries,
        keys,
        warped,
        target_strides,
        source_strides,
        values_strides,
        warped_strides,
        TEMPERATURE,
        C,
        CV,
        PRODUCT,
        BLOCK_QUERIES,
        BLOCK_KEYS,
        BLOCK_CHANNELS,
        BLOCK_VALUES,
    )


@triton.jit
def best_match_strided(
    target,  # (B, C, N)
    source,  # (B, C, M)
    queries,  # N
    keys,  # M
    index,  # (B, N)
    weight,  # (B, N)
    target_strides,
    source_strides,
    temperature,
    C: tl.constexpr,
    PRODUCT: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Find each target position's best source position, the first of equals, and its weight."""
    image = tl.program_id(1).to(tl.int64)
    targets = View(target + image * target_strides[0], target_strides, queries)
    sources = View(source + image * source_strides[0], source_strides, keys)
    rows = tl.program_id(0) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)  # (R,)
    query, sharpness, zero = _query(targets, rows, temperature, C, BLOCK_CHANNELS)
    end = tl.where(tl.min(zero.to(tl.int32)) > 0, 0, keys)  # nothing to do for zero vectors alone
    best = tl.full((BLOCK_QUERIES,), float("-inf"), tl.float32)  # (R,)
    total = tl.zeros((BLOCK_QUERIES,), tl.float32)  # (R,)
    place = tl.zeros((BLOCK_QUERIES,), tl.int32)  # (R,)
    for start in tl.range(0, end, BLOCK_KEYS):
        columns = start + tl.arange(0, BLOCK_KEYS)  # (K,)
        scores = _scores(query, sharpness, targets, rows, sources, columns, C, PRODUCT, BLOCK_CHANNELS)  # (R, K)
        highest, offset = tl.max(scores, 1, return_indices=True)
        place = tl.where(highest > best, start + offset, place)
        top = tl.maximum(best, highest)
        total = total * tl.exp2(best - top) + tl.sum(tl.exp2(scores - top[:, None]), 1)
        best = top
    places = image * queries + rows
    unmatched = zero | (best == EXCLUDED)
    tl.store(index + places, tl.where(unmatched, 0, place).to(tl.int64), mask=rows < queries)
    tl.store(weight + places, tl.where(unmatched, 0.0, 1 / total), mask=rows < queries)


@triton.jit
def _query(targets, rows, temperature, C: tl.constexpr, BLOCK: tl.constexpr):
    query = _tile(targets, rows, 0, C, BLOCK)  # (R, D)
    squares = _squares(query)
    for channel in tl.range(BLOCK, C, BLOCK):
        squares += _squares(_tile(targets, rows, channel, C, BLOCK))
    return query, _inverse_norm(squares) * (LOG2_E / temperature), squares <= MIN_SQUARE


@triton.jit
def _scores(
    query, sharpness, targets, rows, sources, columns, C: tl.constexpr, PRODUCT: tl.constexpr, BLOCK: tl.constexpr
):
    key = _tile(sources, columns, 0, C, BLOCK)  # (K, D)
    products = tl.dot(query.to(PRODUCT), tl.trans(key).to(PRODUCT), input_precision="tf32x3")  # (R, K)
    squares = _squares(key)
    for channel in tl.range(BLOCK, C, BLOCK):
        query = _tile(targets, rows, channel, C, BLOCK)
        key = _tile(sources, columns, channel, C, BLOCK)
        products = tl.dot(query.to(PRODUCT), tl.trans(key).to(PRODUCT), products, input_precision="tf32x3")
        squares += _squares(key)
    # A term a key: chosen score by score, registers spill.
    excluded = tl.where(squares <= MIN_SQUARE, EXCLUDED, 0.0)  # (K,)
    scores = products * sharpness[:, None] * _inverse_norm(squares)[None, :] + excluded[None, :]
    # Keys beyond the last are zero too, but no match even where the others are no numbers.
    return tl.where((columns < sources.count)[None, :], scores, float("-inf"))


@triton.jit
def _tile(view, positions, channel, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    channels = channel + tl.arange(0, BLOCK)
    inside = (positions < view.count)[:, None]
    if WIDTH % BLOCK != 0:
        inside &= (channels < WIDTH)[None, :]
    places = positions[:, None] * view.strides[2] + channels[None, :] * view.strides[1]
    return tl.load(view.base + places, mask=inside, other=0.0)


@triton.jit
def _squares(tile):
    wide = tile.to(tl.float32)
    return tl.sum(wide * wide, 1)


@triton.jit
def _inverse_norm(squares):
    return tl.rsqrt(tl.maximum(squares, MIN_SQUARE))

"""What a few target positions look at, against the softmax of cosines written out in numpy at double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from outfitgan.errors import InputError
from outfitgan.ops.correlate.dispatch import best_match, correlate, match_weights


def by_definition(target: Tensor, source: Tensor, temperature: float, positions: Tensor) -> NDArray[np.float64]:
    """Position by position, source cell by source cell."""
    keys = source.double().flatten(2).numpy()  # (B, C, M)
    rows = []
    for item, (features, chosen) in enumerate(zip(target.double().numpy(), positions.tolist(), strict=True)):
        for position in chosen:
            row, column = divmod(position, target.shape[3])
            query = features[:, row, column]
            lengths = np.linalg.norm(query), np.linalg.norm(keys[item], axis=0)
            weights, present = np.zeros(keys.shape[2]), lengths[1] > 1e-6
            if lengths[0] > 1e-6 and present.any():
                cosines = query @ keys[item][:, present] / lengths[0] / lengths[1][present]
                odds = np.exp((cosines - cosines.max()) / temperature)
                weights[present] = odds / odds.sum()
            rows.append(weights.reshape(source.shape[2:]))
    return np.stack(rows).reshape(*positions.shape, *source.shape[2:])


def drawn(seed: int, batch: int, target: tuple[int, int], source: tuple[int, int]) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    shapes = ((batch, 12, *target), (batch, 12, *source))
    one, other = (torch.from_numpy(draw.normal(size=shape)).float() for shape in shapes)
    return one, other


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    target=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    source=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    temperature=st.sampled_from([1.0, 0.05, 0.01]),
    count=st.integers(1, 7),
)
def test_weights_are_the_softmax_of_cosines(
    seed: int, batch: int, target: tuple[int, int], source: tuple[int, int], temperature: float, count: int
) -> None:
    """At any positions, in any order and more than once."""
    queries, keys = drawn(seed, batch, target, source)
    draw = np.random.default_rng(seed)
    positions = torch.from_numpy(draw.integers(0, target[0] * target[1], (batch, count)))
    found = match_weights(queries, keys, temperature, positions)
    assert found.dtype == torch.float32
    expected = by_definition(queries, keys, temperature, positions)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 + 2e-7 / temperature)
    np.testing.assert_allclose(found.sum(dim=(2, 3)).numpy(), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_dtype_gives_fp32_weights_of_its_own_numbers(dtype: torch.dtype) -> None:
    queries, keys = (x.to(dtype) for x in drawn(0, 2, (4, 5), (6, 3)))
    positions = torch.tensor([[0, 19, 7], [3, 3, 12]])
    found = match_weights(queries, keys, 0.02, positions)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), by_definition(queries, keys, 0.02, positions), atol=2e-5)


def test_all_positions_carry_what_correlate_carries() -> None:
    (queries, keys), values = drawn(1, 2, (4, 5), (6, 3)), drawn(2, 2, (6, 3), (1, 1))[0]
    positions = torch.arange(20).expand(2, -1)
    weights = match_weights(queries, keys, 0.05, positions)
    warped = torch.einsum("bprc,bvrc->bvp", weights, values).reshape(2, -1, 4, 5)
    torch.testing.assert_close(warped, correlate(queries, keys, values, 0.05), atol=1e-5, rtol=0)
    index, weight = best_match(queries, keys, 0.05)
    peaks, places = weights.flatten(2).max(dim=2)
    assert torch.equal(places.reshape(index.shape), index)
    torch.testing.assert_close(peaks.reshape(weight.shape), weight)


def test_zero_vectors_take_no_part() -> None:
    """Position 4 looks at nothing, 2 at what is no vector of zeros; where all are zero, it looks at nothing."""
    queries, keys = drawn(3, 1, (3, 3), (4, 4))
    queries[:, :, 1, 1] = 0
    keys[:, :, 1:3] = 0
    positions = torch.tensor([[4, 2]])
    found = match_weights(queries, keys, 0.3, positions)
    np.testing.assert_allclose(found.numpy(), by_definition(queries, keys, 0.3, positions), atol=1e-5)
    assert not found[:, 0].any()
    assert not found[..., 1:3, :].any()
    torch.testing.assert_close(found[:, 1].sum(), torch.tensor(1.0))
    assert not match_weights(queries, keys * 0, 0.01, positions).any()


def test_no_positions_have_no_weights() -> None:
    queries, keys = drawn(3, 2, (3, 3), (4, 5))
    assert match_weights(queries, keys, 0.1, torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0, 4, 5)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (torch.tensor([0, 1]), r"takes int64 positions \(2, P\), not torch\.int64 \(2,\)"),
        (torch.tensor([[0]]), r"takes int64 positions \(2, P\), not torch\.int64 \(1, 1\)"),
        (torch.zeros(3, 1, dtype=torch.int64), r"takes int64 positions \(2, P\)"),
        (torch.zeros(2, 1), r"takes int64 positions \(2, P\), not torch\.float32 \(2, 1\)"),
        (torch.tensor([[0], [9]]), "takes positions of 0 to 8: row"),
        (torch.tensor([[0], [-1]]), "takes positions of 0 to 8: row"),
    ],
)
def test_positions_that_do_not_fit_are_refused(positions: Tensor, message: str) -> None:
    queries, keys = drawn(4, 2, (3, 3), (4, 4))
    with pytest.raises(InputError, match=message):
        match_weights(queries, keys, 0.1, positions)


def test_features_that_do_not_fit_are_refused() -> None:
    queries, keys = drawn(4, 2, (3, 3), (4, 4))
    positions = torch.zeros(2, 1, dtype=torch.int64)
    for bad, message in (
        ((queries[0], keys), "takes \\(batch, channels, height, width\\)"),
        ((queries[:, :5], keys), "one batch and one channel count"),
        ((queries, keys[:1]), "one batch and one channel count"),
        ((queries.half(), keys), "one dtype"),
    ):
        with pytest.raises(InputError, match=message):
            match_weights(*bad, 0.1, positions)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="temperature above 0"):
            match_weights(queries, keys, temperature, positions)

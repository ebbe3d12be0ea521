"""The measure itself: what it reports, what it lets pass."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export.parity import (
    IDENTICAL_DB,
    Parity,
    Tolerance,
    adversarial_inputs,
    compare,
    measure,
    parity_feeds,
    psnr,
    shortfalls,
    tolerance_of,
)
from outfitgan.contracts import GraphContract, TensorSpec
from outfitgan.errors import GraphError
from outfitgan.model_graphs import image_spec, mask_spec

IMAGE = GraphContract("g", (image_spec("SOURCE", 8), mask_spec("MASK", 8)), (image_spec("IMAGE", 8),))
MATCHES = GraphContract(
    "a", (), (TensorSpec("MATCH", "int32", (1, 4, 2), 0, 3), TensorSpec("WEIGHT", "float32", (1, 4), 0, 1))
)


def image(level: int) -> dict[str, np.ndarray]:
    return {"IMAGE": np.full((1, 8, 8, 3), level, np.uint8)}


def test_identical_arrays() -> None:
    figures = compare(image(7), image(7), IMAGE)
    assert figures == {"IMAGE": Parity(0.0, IDENTICAL_DB, 0, 1.0)}
    assert not shortfalls(figures, IMAGE, "fp32")


def test_difference_is_in_levels_and_does_not_wrap() -> None:
    figures = compare(image(0), image(255), IMAGE)["IMAGE"]
    assert (figures.max_abs, figures.agreement) == (255.0, 0.0)
    assert figures.psnr_db == pytest.approx(0)


def test_psnr_of_one_level_everywhere() -> None:
    assert compare(image(10), image(11), IMAGE)["IMAGE"].psnr_db == pytest.approx(48.13, abs=0.01)


def test_shortfall_names_the_figures_and_the_requirement() -> None:
    text = shortfalls(compare(image(10), image(13), IMAGE), IMAGE, "fp32")
    assert text == "IMAGE: max abs 3 (at most 1), PSNR 38.6 dB (at least 55)"


def test_nan_never_passes() -> None:
    parity = Parity(float("nan"), 200.0, 2, 1.0)
    assert not parity.within(Tolerance())
    assert "2 NaN" in parity.shortfall(Tolerance())


def test_nan_is_counted() -> None:
    contract = GraphContract("f", (), (TensorSpec("WARPED", "float32", (2,), -9, 9),))
    bad = {"WARPED": np.array([[1, np.nan]], np.float32)}
    good = {"WARPED": np.array([[1, 2]], np.float32)}
    assert compare(good, bad, contract)["WARPED"].nan_count == 1
    assert "1 NaN" in shortfalls(compare(good, bad, contract), contract, "fp16")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("hop", ["reference", "actual", "both"])
def test_values_that_are_not_finite_are_the_worst(bad: float, hop: str) -> None:
    contract = GraphContract("f", (), (TensorSpec("WARPED", "float32", (2,), -9, 9),))
    arrays = {"WARPED": np.array([[1, bad]], np.float32)}, {"WARPED": np.array([[1.5, 2]], np.float32)}
    reference, actual = {"reference": arrays, "actual": arrays[::-1], "both": arrays[:1] * 2}[hop]
    figures = compare(reference, actual, contract)["WARPED"]
    assert (figures.nan_count, figures.psnr_db) == (1, -IDENTICAL_DB)
    assert figures.max_abs == (0 if hop == "both" else 0.5)
    assert not figures.within(Tolerance())
    json.dumps(figures.to_json(), allow_nan=False)


def test_any_finite_difference_has_a_psnr() -> None:
    contract = GraphContract("f", (), (TensorSpec("WARPED", "float64", (1,), -9, 9),))
    zero, huge = {"WARPED": np.zeros((1, 1))}, {"WARPED": np.full((1, 1), 1e200)}
    assert compare(zero, huge, contract)["WARPED"].psnr_db == -IDENTICAL_DB


def matches(cells: list[int], weights: list[float]) -> dict[str, np.ndarray]:
    pairs = np.array([[[[cell // 2, cell % 2] for cell in cells]]], np.int32)
    return {"MATCH": pairs, "WEIGHT": np.array([[weights]], np.float32)}


def test_matches_are_judged_where_no_tie_is_possible() -> None:
    reference = matches([0, 1, 2, 3], [0.9, 0.6, 0.5, 0.2])
    ties_fell_otherwise = matches([0, 1, 0, 0], [0.9, 0.6, 0.5, 0.2])
    clear_differs = matches([0, 0, 2, 3], [0.9, 0.6, 0.5, 0.2])
    assert compare(reference, ties_fell_otherwise, MATCHES)["MATCH"].agreement == 1
    assert compare(reference, clear_differs, MATCHES)["MATCH"].agreement == 0.5
    assert "agreement 0.5000 (at least 1)" in shortfalls(compare(reference, clear_differs, MATCHES), MATCHES, "fp32")


def test_wrong_shape_dtype_or_name_is_refused() -> None:
    with pytest.raises(GraphError, match=r"IMAGE must be uint8 \(1, 8, 8, 3\)"):
        compare(image(1), {"IMAGE": np.ones((1, 3, 8, 8), np.uint8)}, IMAGE)
    with pytest.raises(GraphError, match="not float32"):
        compare(image(1), {"IMAGE": np.ones((1, 8, 8, 3), np.float32)}, IMAGE)
    with pytest.raises(GraphError, match="gave no IMAGE"):
        compare(image(1), {}, IMAGE)


def test_fp16_is_owed_less_than_fp32() -> None:
    for spec in (*IMAGE.outputs, *MATCHES.outputs):
        strict, loose = tolerance_of(spec, "fp32"), tolerance_of(spec, "fp16")
        assert strict.max_abs <= loose.max_abs
        assert strict.psnr_db >= loose.psnr_db
        assert strict.agreement >= loose.agreement


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_adversarial_inputs_hold_every_case_at_every_batch(batch: int) -> None:
    feeds = [feed for _, feed in adversarial_inputs(IMAGE, batch, 0)]
    for feed in feeds:
        assert IMAGE.check_inputs(feed) == batch
    sources = np.concatenate([feed["SOURCE"] for feed in feeds])
    masks = np.concatenate([feed["MASK"] for feed in feeds])
    lit = {int((mask >= 128).sum()) for mask in masks}
    assert {0, 1, 64} <= lit
    assert any((source == 0).all() for source in sources)
    assert any((source == 255).all() for source in sources)
    labels = " + ".join(label for label, _ in adversarial_inputs(IMAGE, batch, 0))
    for case in ("random", "one-pixel mask", "empty mask", "full mask", "all black", "all white"):
        assert case in labels


def test_adversarial_inputs_repeat_by_seed() -> None:
    first, again, other = (adversarial_inputs(IMAGE, 2, seed)[0][1]["SOURCE"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_measure_covers_batch_1_2_and_max_and_keeps_the_worst() -> None:
    feeds = parity_feeds(IMAGE)
    assert [len(feed["MASK"]) for feed in feeds] == [1, 2, 8]
    references = [{"IMAGE": feed["SOURCE"]} for feed in feeds]

    def off_at_two(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shifted = feed["SOURCE"] ^ np.uint8(4) if len(feed["MASK"]) == 2 else feed["SOURCE"]
        return {"IMAGE": shifted}

    assert measure(references, off_at_two, feeds, IMAGE)["IMAGE"].max_abs == 4


def test_a_psnr_that_cannot_be_computed_is_no_agreement() -> None:
    whole = np.linspace(0, 255, 12, dtype=np.float32)
    assert psnr(whole, whole) == IDENTICAL_DB
    for stray in (np.nan, np.inf):
        broken = whole.copy()
        broken[3] = stray
        assert psnr(whole, broken) == psnr(broken, whole) == psnr(broken, broken) == -IDENTICAL_DB
    zero = np.zeros(4, np.float32)
    assert psnr(zero, zero, peak=0) == IDENTICAL_DB
    assert psnr(zero, zero + 1, peak=0) == -IDENTICAL_DB
    assert psnr(np.full(4, 100, np.uint8), np.full(4, 101, np.uint8)) == pytest.approx(20 * np.log10(255), abs=1e-9)

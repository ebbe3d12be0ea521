"""Parity: how far two hops (torch, ONNX, an engine) agree on the same inputs, and how far they must.

Images are compared in levels, features and probabilities by value. MATCH is an argmax, which may fall either way
on a tie: it is compared where WEIGHT exceeds one half, because no second position can then reach the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.contracts import Arrays, GraphContract, TensorSpec
from outfitgan.errors import GraphError

Runner = Callable[[Arrays], Arrays]
"""Maps a graph's inputs to its outputs."""

IDENTICAL_DB = 200.0
"""The PSNR given to identical arrays, and negated to values that are not finite; JSON has no infinity."""

_CLEAR = 0.5


@dataclass(frozen=True)
class Tolerance:
    """What is required of one output."""

    max_abs: float = math.inf
    psnr_db: float = 0.0
    agreement: float = 0.0


@dataclass(frozen=True)
class Parity:
    """How one output of two hops agrees."""

    max_abs: float  # of the finite values; JSON has no infinity
    psnr_db: float  # peak: 255 for images, the largest reference value otherwise
    nan_count: int  # values that are NaN or infinite, in either hop
    agreement: float  # share of equal elements; of an index output, share of equal cells among the clear ones

    def within(self, tolerance: Tolerance) -> bool:
        """Return whether the tolerance is met and every value is finite."""
        return not self.shortfall(tolerance)

    def shortfall(self, tolerance: Tolerance) -> str:
        """Return each missed figure with what was required of it, or an empty string."""
        missed = []
        if self.nan_count:
            missed.append(f"{self.nan_count} NaN or infinite (none allowed)")
        if not self.max_abs <= tolerance.max_abs:
            missed.append(f"max abs {self.max_abs:.3g} (at most {tolerance.max_abs:g})")
        if not self.psnr_db >= tolerance.psnr_db:
            missed.append(f"PSNR {self.psnr_db:.1f} dB (at least {tolerance.psnr_db:g})")
        if not self.agreement >= tolerance.agreement:
            missed.append(f"agreement {self.agreement:.4f} (at least {tolerance.agreement:g})")
        return ", ".join(missed)

    def to_json(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)

    def worst(self, other: Parity) -> Parity:
        """Return the worse of two measurements, figure by figure."""
        return Parity(
            max(self.max_abs, other.max_abs),
            min(self.psnr_db, other.psnr_db),
            self.nan_count + other.nan_count,
            min(self.agreement, other.agreement),
        )


def tolerance_of(spec: TensorSpec, precision: str) -> Tolerance:
    """Return what `precision` (a graph's, or bf16) owes the FP32 reference on this output."""
    return _TOLERANCES[precision][_kind(spec)]


_TOLERANCES: dict[str, dict[str, Tolerance]] = {
    # One level: a value on the edge between two levels may round either way. The units' 5e-4 is for onnxruntime's
    # LSTM, whose fast sigmoid and tanh differ from torch's by up to 1e-4.
    "fp32": {
        "image": Tolerance(max_abs=1, psnr_db=55),
        "features": Tolerance(psnr_db=100),
        "unit": Tolerance(max_abs=5e-4),
        "index": Tolerance(agreement=1.0),
    },
    # 11 bits of mantissa through some thirty layers; the softmax divides an error in a cosine by its temperature,
    # so single values may stray. Measured on untrained networks: images 58 dB, features 63 dB, units 0.03.
    "fp16": {
        "image": Tolerance(psnr_db=35),
        "features": Tolerance(psnr_db=40),
        "unit": Tolerance(max_abs=0.1),
        "index": Tolerance(agreement=0.99),
    },
    # 8 bits of mantissa, in the correlation too. Measured with torch in bf16 on the demo-size network:
    # images 49.9 dB and at most 10 levels, SAM features 46.9 dB, compatibility 3e-3.
    "bf16": {
        "image": Tolerance(psnr_db=25),
        "features": Tolerance(psnr_db=20),
        "unit": Tolerance(max_abs=0.25),
        "index": Tolerance(agreement=0.9),
    },
    # 7 bits and a sign, of convolutions alone, in the graphs that make items. Measured on trained runs:
    # at the least 39.5 dB on adversarial inputs and 37.4 dB on held-out outfits; an engine that rounds a tensor wrongly
    # comes to 17 to 30 dB.
    "int8": {"image": Tolerance(psnr_db=33)},
    "int8-fp16": {"image": Tolerance(psnr_db=33)},
}


def _kind(spec: TensorSpec) -> str:
    if spec.dtype == "uint8":
        return "image"
    if np.issubdtype(np.dtype(spec.dtype), np.integer):
        return "index"
    return "unit" if (spec.low, spec.high) == (0, 1) else "features"


def compare(reference: Arrays, actual: Arrays, contract: GraphContract) -> dict[str, Parity]:
    """Compare every output of `contract`; raise GraphError if one is missing or of another shape or dtype."""
    figures = {}
    for spec in contract.outputs:
        expected, found = reference.get(spec.name), actual.get(spec.name)
        if expected is None or found is None:
            raise GraphError(f"{contract.name} gave no {spec.name}; export the graph again.")
        if found.shape != expected.shape or found.dtype != np.dtype(spec.dtype):
            wanted = f"{spec.dtype} {expected.shape}"
            raise GraphError(f"{contract.name}: {spec.name} must be {wanted}, not {found.dtype} {found.shape}.")
        clear = _clear(expected, reference) if _kind(spec) == "index" else None
        figures[spec.name] = _compare(expected, found, clear, 255.0 if _kind(spec) == "image" else None)
    return figures


def _clear(index: NDArray[Any], outputs: Arrays) -> NDArray[np.bool_]:
    """Return which cells (B, g, g) of an index (B, g, g, 2) cannot be a tie."""
    weight = outputs.get("WEIGHT")
    return np.ones(index.shape[:-1], bool) if weight is None else weight > _CLEAR


def _compare(
    expected: NDArray[Any], found: NDArray[Any], clear: NDArray[np.bool_] | None, peak: float | None
) -> Parity:
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    if clear is not None:
        wide, other = wide[clear], other[clear]
    equal = (wide == other).all(axis=-1) if clear is not None else wide == other
    finite = np.isfinite(wide) & np.isfinite(other)  # FP16 overflows to infinity
    lost = finite.size - int(finite.sum())
    difference = np.abs(wide[finite] - other[finite])
    ceiling = peak or max(float(np.abs(wide[finite]).max(initial=0.0)), 1e-12)
    return Parity(
        max_abs=float(difference.max(initial=0.0)),
        psnr_db=-IDENTICAL_DB if lost else _psnr(difference, ceiling),
        nan_count=lost,
        agreement=float(equal.mean()) if equal.size else 1.0,
    )


def psnr(reference: NDArray[Any], actual: NDArray[Any], peak: float = 255) -> float:
    """Return the peak signal-to-noise ratio in dB: IDENTICAL_DB of equal arrays, its negative of ones not finite."""
    with np.errstate(invalid="ignore"):  # infinity less infinity is not finite, as is said below
        difference = np.abs(reference.astype(np.float64) - actual)
    return _psnr(difference, max(peak, 1e-12)) if np.isfinite(difference).all() else -IDENTICAL_DB


def _psnr(difference: NDArray[np.float64], ceiling: float) -> float:
    """Return the PSNR within +-IDENTICAL_DB."""
    with np.errstate(over="ignore"):  # beyond FP64 is beyond the range as well
        error = float(np.mean((difference / ceiling) ** 2)) if difference.size else 0.0
    return IDENTICAL_DB if error == 0 else max(-IDENTICAL_DB, min(IDENTICAL_DB, -10 * math.log10(error)))


def adversarial_inputs(contract: GraphContract, batch: int, seed: int) -> list[tuple[str, Arrays]]:
    """Return feeds of `batch` rows that together hold random, one-pixel, empty, full, all-black and all-white rows.

    Each comes with a label naming its rows. The first feed begins with a random row.
    """
    rows = list(_rows(contract, np.random.default_rng(seed)))
    rows += rows[: -len(rows) % batch]
    chunks = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return [(" + ".join(label for label, _ in chunk), _stack([row for _, row in chunk])) for chunk in chunks]


def _rows(contract: GraphContract, generator: np.random.Generator) -> Iterator[tuple[str, Arrays]]:
    images = [spec for spec in contract.inputs if spec.shape[-1] == 3]
    masks = [spec for spec in contract.inputs if spec.shape[-1] == 1]
    cases: list[tuple[str, int | None, str]] = [
        ("random", None, "random"),
        ("one-pixel mask", None, "one pixel"),
        ("empty mask", None, "empty"),
        ("full mask", None, "full"),
        ("all black", 0, "random"),
        ("all white", 255, "random"),
    ]
    for label, level, silhouette in cases:
        row = {spec.name: _image(spec, level, generator) for spec in images}
        yield label, row | {spec.name: _mask(spec, silhouette, generator) for spec in masks}


def _image(spec: TensorSpec, level: int | None, generator: np.random.Generator) -> NDArray[np.uint8]:
    if level is not None:
        return np.full(spec.shape, level, np.uint8)
    return generator.integers(0, 256, spec.shape, dtype=np.uint8)


def _mask(spec: TensorSpec, silhouette: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    if silhouette == "random":
        return generator.integers(0, 256, spec.shape, dtype=np.uint8)
    mask = np.full(spec.shape, 255 if silhouette == "full" else 0, np.uint8)
    if silhouette == "one pixel":
        mask[spec.shape[0] // 3, spec.shape[1] // 2] = 255
    return mask


def _stack(rows: list[Arrays]) -> Arrays:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def parity_feeds(contract: GraphContract, seed: int = 0) -> list[Arrays]:
    """Return one feed at batch 1, one at 2 and every adversarial row at the largest batch."""
    small = [adversarial_inputs(contract, batch, seed)[0][1] for batch in (1, 2)]
    return small + [feeds for _, feeds in adversarial_inputs(contract, contract.max_batch, seed)]


def measure(
    references: Sequence[Arrays], run: Runner, feeds: Sequence[Arrays], contract: GraphContract
) -> dict[str, Parity]:
    """Run every feed and return each output's worst parity with its reference."""
    worst: dict[str, Parity] = {}
    for reference, feed in zip(references, feeds, strict=True):
        for name, parity in compare(reference, run(feed), contract).items():
            worst[name] = parity.worst(worst[name]) if name in worst else parity
    return worst


def shortfalls(parities: Mapping[str, Parity], contract: GraphContract, precision: str) -> str:
    """Return what is out of tolerance, output by output, with what was required; empty if nothing is."""
    missed = {spec.name: parities[spec.name].shortfall(tolerance_of(spec, precision)) for spec in contract.outputs}
    return "; ".join(f"{name}: {text}" for name, text in missed.items() if text)

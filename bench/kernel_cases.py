"""What the fused correlation is tried on: inputs, the definition's answer, and how far from it an answer may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from outfitgan.ops.correlate.dispatch import best_match
from outfitgan.ops.correlate.reference import reference

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
LIMITS = {"fp16": 2e-3, "bf16": 1.6e-2, "fp32": 2e-4}
"""The largest error allowed at temperature 0.01, for values in [-1, 1]: what is promised, not what is hoped for."""

Inputs = tuple[Tensor, Tensor, Tensor]
Warp = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Match = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class KernelCase:
    """One problem for the kernel."""

    name: str
    channels: int  # C
    values: int  # Cv
    target: tuple[int, int]  # H, W
    source: tuple[int, int]  # Hs, Ws
    batch: int = 1
    temperature: float = 0.01
    dtype: str = "fp16"
    scale: float = 1.0  # of the features
    spread: float = 1.0  # of the features about one common vector; 0 makes all alike
    ground: float = 0.0  # share of zero vectors: the target's first rows and the source's last
    layout: torch.memory_format = torch.channels_last

    def inputs(self, device: torch.device | str) -> Inputs:
        """Return target (B, C, H, W), source (B, C, Hs, Ws) and values (B, Cv, Hs, Ws) in [-1, 1], seeded."""
        draw = torch.Generator().manual_seed(0)
        common = torch.randn(1, self.channels, 1, 1, generator=draw) * (self.spread != 1)
        target, source = (
            (common + self.spread * torch.randn(self.batch, self.channels, *grid, generator=draw)) * self.scale
            for grid in (self.target, self.source)
        )
        values = torch.rand(self.batch, self.values, *self.source, generator=draw) * 2 - 1
        target[..., :1, :1] = 0
        target[:, :, : round(self.ground * self.target[0])] = 0
        source[:, :, round((1 - self.ground) * self.source[0]) :] = 0
        made = [
            x.clamp(-6e4, 6e4).to(device, DTYPES[self.dtype]).to(memory_format=self.layout)
            for x in (target, source, values)
        ]
        return made[0], made[1], made[2]

    @property
    def operations(self) -> int:
        """Floating-point operations of the two products, two for each multiply and add."""
        positions = self.target[0] * self.target[1] * self.source[0] * self.source[1]
        return 2 * self.batch * positions * (self.channels + self.values)


@dataclass(frozen=True)
class Checked:
    """How far an answer was from the definition at FP64."""

    case: str
    dtype: str
    temperature: float
    error: float  # worst, of the warp
    limit: float
    weight_error: float  # worst, of the best match's weight
    other_matches: float  # share of positions whose best match has a lesser weight than the definition's, or is not 0

    @property
    def passed(self) -> bool:
        """Return whether everything is within its limit; what is not a number is not."""
        return self.error <= self.limit and self.weight_error <= 1e-3 and self.other_matches == 0

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self) | {"passed": self.passed}


def check(case: KernelCase, device: torch.device | str, warp: Warp, match: Match) -> Checked:
    """Compare `warp` and `match` on a case with the definition at double precision, on the same numbers."""
    target, source, values = case.inputs(device)
    wide = target.double(), source.double(), values.double()
    error = (warp(target, source, values, case.temperature).double() - reference(*wide, case.temperature)).abs().max()
    index, weight = match(target, source, case.temperature)
    expected_index, expected = best_match(*wide[:2], case.temperature, "reference")
    cosines = [_cosine(wide[0], wide[1], found) for found in (index, expected_index)]
    lesser = (cosines[1] - cosines[0]) > 1e-5  # equals are taken in any order, and FP32 does not tell nearer ones apart
    lesser |= ((expected == 0) & (index != 0)).flatten(1)  # nothing is matched
    return Checked(
        case=case.name,
        dtype=case.dtype,
        temperature=case.temperature,
        error=float(error),
        limit=LIMITS[case.dtype] * max(1.0, 0.01 / case.temperature),
        weight_error=float((weight - expected).abs().max()),
        other_matches=float(lesser.double().mean()),
    )


def _cosine(target: Tensor, source: Tensor, index: Tensor) -> Tensor:
    """Return the cosine (B, N) of each target position with the source position that `index` (B, H, W) names."""
    chosen = index.flatten(1).unsqueeze(1).expand(-1, source.shape[1], -1)  # (B, C, N)
    return torch.cosine_similarity(target.flatten(2), source.flatten(2).gather(2, chosen), dim=1)


def check_cases(side: int) -> list[KernelCase]:
    """Return the cases of the numerics table, on grids of about `side` that fill no tile."""
    plain = KernelCase("width 64", 64, 64, (side - 1, side), (side, side - 3))
    return [
        plain,
        replace(plain, name="temperature 1", temperature=1.0),
        replace(plain, name="temperature 0.1", temperature=0.1),
        replace(plain, name="batch 3, channels first", batch=3, layout=torch.contiguous_format),
        replace(plain, name="the paper preset's widths", channels=128, values=256),
        replace(plain, name="the greatest widths", channels=256, values=256),
        replace(plain, name="widths 48 and 80", channels=48, values=80),
        replace(plain, name="features of 1e-4", scale=1e-4),
        replace(plain, name="features up to 6e4", scale=6e4),
        replace(plain, name="near-tied keys", spread=1e-2),
        replace(plain, name="flat regions", spread=0.0),
        replace(plain, name="mostly zero vectors", ground=0.75, temperature=1.0),
        replace(plain, name="bf16", dtype="bf16"),
        replace(plain, name="fp32", dtype="fp32"),
    ]

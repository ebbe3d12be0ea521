"""The weight of the CCM's loss, swept against that of the perceptual loss: does it buy compatibility, at what price?"""

from __future__ import annotations

from outfitgan.evaluation.judge import FCTS
from outfitgan.experiments.arms import Arm, Settings, compare
from outfitgan.experiments.report import apart, rows_of, write_report

_COLLOCATION = (0.0, 1.0, 10.0)
_METRICS = ("SSIM", "distance (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)", FCTS)


def run(settings: Settings) -> None:
    """Train every pair of weights; the perceptual ones are 0 and the config's, or 0 alone if that is its own."""
    perceptual = dict.fromkeys((0.0, settings.config.losses.perceptual))
    arms = [
        Arm(f"CCM {weight:g}" + (f", perceptual {other:g}" if other else ""), _weights(weight, other))
        for other in perceptual
        for weight in _COLLOCATION
    ]
    outcomes = compare(arms, settings)
    rows = rows_of(outcomes, _METRICS)
    notes = [apart(metric, rows[0], row) for row in rows[1:] for metric in (FCTS, "SSIM")]
    write_report("collocation-weight", "Weight of the collocation loss", rows, outcomes, notes, settings)


def _weights(collocation: float, perceptual: float) -> dict[str, float]:
    return {"losses.collocation": collocation, "losses.perceptual": perceptual}

"""One more stage against a generator that works at the full size all through, on the same outfits and steps."""

from __future__ import annotations

from outfitgan.experiments.arms import Arm, Settings, compare
from outfitgan.experiments.experiment_report import apart, rows_of, write_report

_ARMS = (
    Arm("direct", {"model.generator.architecture": "outfitgan"}),
    Arm("one more stage", {"model.generator.architecture": "hires"}),
)
_METRICS = (
    *("SSIM", "distance (EfficientNet-Lite0)", "FID (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)"),
    "sharpness ratio",
)


def run(settings: Settings) -> None:
    """Train both at the config's image size over every seed."""
    outcomes = compare(_ARMS, settings)
    rows = rows_of(outcomes, _METRICS)
    notes = [apart(metric, *rows) for metric in rows[0].intervals]
    write_report("hires", "Full size through one more stage", rows, outcomes, notes, settings)

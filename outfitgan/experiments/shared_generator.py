"""One generator for all target kinds against one for each: what it saves, and what that costs."""

from __future__ import annotations

from outfitgan.evaluation.judge import FCTS
from outfitgan.experiments.arms import Arm, Settings, compare, outfit_milliseconds, train_arm
from outfitgan.experiments.report import apart, rows_of, write_report
from outfitgan.training.networks import load_generator

_ARMS = (
    Arm("separate", {"model.generator.architecture": "outfitgan"}),
    Arm("shared", {"model.generator.architecture": "shared"}),
)
_METRICS = ("SSIM", "distance (EfficientNet-Lite0)", "FID (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)", FCTS)


def run(settings: Settings) -> None:
    """Train both over every seed; state the loss in quality, and the shares of parameters and of time."""
    outcomes = compare(_ARMS, settings)
    rows = rows_of(outcomes, _METRICS)
    separate, shared = rows
    parameters = shared.parameters / separate.parameters
    runs = [train_arm(arm, settings.seeds[0], settings, None) for arm in _ARMS]  # trained by now
    one, other = outfit_milliseconds([load_generator(run) for run in runs], settings.config)
    notes = [
        f"The shared generator has {parameters:.0%} of the parameters and takes {other / one:.0%} of the time: "
        f"{other:.1f} ms an outfit in torch, {one:.1f} ms the separate ones, in turns."
    ]
    notes += [apart(metric, separate, shared) for metric in separate.intervals]
    write_report("shared-generator", "One generator for all kinds", rows, outcomes, notes, settings)

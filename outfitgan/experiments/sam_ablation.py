"""The paper's ablation of the SAM: the generator with it, and with plain concatenation in its place."""

from __future__ import annotations

from outfitgan.experiments.arms import Arm, Settings, compare
from outfitgan.experiments.experiment_report import apart, rows_of, write_report

_ARMS = (
    Arm("SAM", {"model.generator.alignment.kind": "semantic"}),
    Arm("concatenation", {"model.generator.alignment.kind": "concatenation"}),
)
_METRICS = (
    *("SSIM", "distance (EfficientNet-Lite0)", "FID (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)"),
    *("mask IoU", "sharpness ratio", "texture diversity ratio", "FCTS (a Bi-LSTM trained apart)"),
)


def run(settings: Settings) -> None:
    """Train both arms over every seed and say where their intervals lie apart."""
    outcomes = compare(_ARMS, settings)
    rows = rows_of(outcomes, _METRICS)
    notes = [apart(metric, *rows) for metric in rows[0].intervals]
    write_report("sam-ablation", "SAM against concatenation", rows, outcomes, notes, settings)

"""OutfitGAN and generators without a SAM, pix2pix's and pix2pixHD's, on the same outfits for the same steps."""

from __future__ import annotations

from outfitgan.evaluation.judge import FCTS
from outfitgan.experiments.arms import Arm, Settings, compare
from outfitgan.experiments.experiment_report import apart, rows_of, write_report

_ARMS = (
    Arm("OutfitGAN", {"model.generator.architecture": "outfitgan"}),
    Arm("pix2pix", {"model.generator.architecture": "pix2pix", "model.generator.norm": "instance"}),
    Arm("pix2pixHD", {"model.generator.architecture": "pix2pixhd", "model.generator.norm": "instance"}),
)
_METRICS = (
    *("SSIM", "distance (EfficientNet-Lite0)", "FID (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)"),
    *("mask IoU", "sharpness ratio", FCTS),
)


def run(settings: Settings) -> None:
    """Train every generator with the same losses, discriminators and CCM; each has the norm of its origin."""
    outcomes = compare(_ARMS, settings)
    rows = rows_of(outcomes, _METRICS)
    notes = [apart(metric, rows[0], row) for row in rows[1:] for metric in ("SSIM", "KID (EfficientNet-Lite0)", FCTS)]
    write_report("baselines", "OutfitGAN and generators without a SAM", rows, outcomes, notes, settings)

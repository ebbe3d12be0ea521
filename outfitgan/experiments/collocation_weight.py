"""The weight of the CCM's loss, swept against that of the perceptual loss: does it buy compatibility, at what price?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outfitgan.config import Config, override
from outfitgan.evaluation.judge import FCTS, seen_in_training
from outfitgan.experiments.arms import Arm, Settings, compare
from outfitgan.experiments.experiment_report import Row, apart, rows_of, write_report

_COLLOCATION = (0.0, 1.0, 10.0)
_PERCEPTUAL = 2.0  # where the config has none: ours, of `photos`
_METRICS = ("SSIM", "distance (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)", FCTS)


def run(settings: Settings) -> None:
    """Train every pair of weights; the perceptual ones are 0 and the config's own, or `photos`' if that is 0."""
    arms = _arms(settings.config)
    outcomes = compare(arms, settings)
    rows = rows_of(outcomes, _METRICS)
    notes = _notes(rows) + seen_in_training(override(settings.config, arms[-1].changes))
    write_report("collocation-weight", "Weight of the collocation loss", rows, outcomes, notes, settings)


def _arms(config: Config) -> list[Arm]:
    """Return the arms, those without a perceptual loss first."""
    own: dict[str, Any] = {"losses.perceptual": config.losses.perceptual}
    if not config.losses.perceptual:  # its network is then one whose weights come with the package
        own = {"losses.perceptual": _PERCEPTUAL, "losses.perceptual_network": "efficientnet-lite0"}
    return [
        Arm(f"CCM {weight:g}" + title, {"losses.collocation": weight, **perceptual})
        for title, perceptual in (("", {"losses.perceptual": 0.0}), (f", perceptual {own['losses.perceptual']:g}", own))
        for weight in _COLLOCATION
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    """Compare each weight of the CCM with none beside the same perceptual loss, then that loss with none."""
    blind, seeing = rows[: len(_COLLOCATION)], rows[len(_COLLOCATION) :]
    pairs = [(group[0], row) for group in (blind, seeing) for row in group[1:]]
    return [apart(metric, *pair) for pair in [*pairs, (blind[0], seeing[0])] for metric in (FCTS, "SSIM")]

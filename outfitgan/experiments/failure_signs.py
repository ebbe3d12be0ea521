"""The paper's failure signs, measured on generators made to show them.

Border spots; a style that is ignored without the SAM; blur where L1 dominates; noisy texture where the adversarial loss
does.
"""

from __future__ import annotations

from outfitgan.experiments.arms import Arm, Settings, compare
from outfitgan.experiments.experiment_report import Row, rows_of, write_report

_ARMS = (
    Arm("default"),
    Arm("no SAM", {"model.generator.alignment.kind": "concatenation"}),
    Arm("L1 alone", {"losses.adversarial": 0.0, "losses.collocation": 0.0}),
    Arm("adversarial dominates", {"losses.l1": 1.0, "losses.adversarial": 10.0}),
)
_SIGNS = ("border spots", "sharpness ratio", "texture diversity ratio", "distance (EfficientNet-Lite0)", "SSIM")


def run(settings: Settings) -> None:
    """Train every arm over every seed and report which sign each shows."""
    outcomes = compare(_ARMS, settings)
    rows = rows_of(outcomes, _SIGNS)
    default, without, smooth, noisy = rows
    notes = [
        _sign("style ignored without the SAM (distance up)", "distance (EfficientNet-Lite0)", default, without, 1),
        _sign("textures alike without the SAM (diversity down)", "texture diversity ratio", default, without, -1),
        _sign("blur where L1 stands alone (sharpness down)", "sharpness ratio", default, smooth, -1),
        _sign("noise where the adversarial loss dominates (sharpness up)", "sharpness ratio", default, noisy, 1),
        _sign("border spots where the adversarial loss dominates", "border spots", default, noisy, 1),
    ]
    write_report("failure-signs", "Failure signs", rows, outcomes, notes, settings)


def _sign(what: str, metric: str, before: Row, after: Row, direction: int) -> str:
    """Return a sentence on whether a metric moved in the direction of its sign beyond the seeds' intervals."""
    one, other = before.intervals[metric], after.intervals[metric]
    moved = direction * (other.value - one.value) > 0
    verdict = "not seen" if not moved else "within the intervals" if one.overlaps(other) else "seen"
    return f"{what}: {verdict}; {metric} {one} by default, {other} with {after.arm}."

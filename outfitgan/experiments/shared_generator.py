"""One generator for all target kinds against one for each: what it saves, and what that costs.

Sharing saves parameters, and the time of reading the source once for each kind; the SAM's correlation, most of an
outfit's time on a large grid, stays. So a third arm has a coarser SAM, as the `shared` preset has, and its price shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from outfitgan.config import Config, ModelConfig
from outfitgan.evaluation.judge import FCTS
from outfitgan.experiments.arms import Arm, Settings, compare, outfit_milliseconds, parameters_of, train_arm
from outfitgan.experiments.experiment_report import apart, rows_of, write_report
from outfitgan.training.trained_networks import load_generator

_METRICS = ("SSIM", "distance (EfficientNet-Lite0)", "FID (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)", FCTS)


def run(settings: Settings) -> None:
    """Train all over every seed; state the loss in quality, and the shares of parameters and of time."""
    arms = _arms(settings.config)
    outcomes = compare(arms, settings)
    rows = rows_of(outcomes, _METRICS)
    separate, shared, coarser = rows
    runs = [train_arm(arm, settings.seeds[0], settings, None) for arm in arms]  # trained by now
    generators = [load_generator(run) for run in runs]
    times = outfit_milliseconds(generators, settings.config)
    notes = _savings([arm.name for arm in arms], [parameters_of(generator) for generator in generators], times)
    notes.append(_differences([run.config.model for run in runs[1:]]))
    pairs = ((separate, shared), (shared, coarser), (separate, coarser))
    notes += [apart(metric, *pair) for pair in pairs for metric in separate.intervals]
    write_report("shared-generator", "One generator for all kinds", rows, outcomes, notes, settings)


def _arms(config: Config) -> list[Arm]:
    """Return the arms; where the encoder is no deeper than the SAM's grid, the coarser SAM takes a deeper one."""
    generator = config.model.generator
    grid = generator.alignment.downsamples + 1
    coarser = {
        "model.generator.alignment.downsamples": grid,
        "model.generator.downsamples": max(generator.downsamples, grid),
    }
    return [
        Arm("separate", {"model.generator.architecture": "outfitgan"}),
        Arm("shared", {"model.generator.architecture": "shared"}),
        Arm("shared, coarser SAM", {"model.generator.architecture": "shared", **coarser}),
    ]


def _differences(models: Sequence[ModelConfig]) -> str:
    """Return a sentence on the shared generators' grids, and on their encoders' depths where those differ."""
    grid, coarser = (model.alignment_grid for model in models)
    depth, deeper = (model.generator.downsamples for model in models)
    sentence = f"The SAM's grid is {grid}x{grid}, the coarser one's {coarser}x{coarser}"
    if depth != deeper:
        sentence += (
            f", whose encoder and decoder had to be one level deeper ({deeper}, not {depth}), hence its parameters"
        )
    return f"{sentence}."


def _savings(names: Sequence[str], sizes: Sequence[int], times: Sequence[float]) -> list[str]:
    """Return a sentence on each arm's share of the first one's parameters and of its milliseconds an outfit."""
    return [
        f"{name}: {size / sizes[0]:.0%} of the parameters and {time / times[0]:.0%} of the time of {names[0]}; "
        f"{time:.1f} ms an outfit in torch, {times[0]:.1f} ms {names[0]}, in turns."
        for name, size, time in zip(names[1:], sizes[1:], times[1:], strict=True)
    ]

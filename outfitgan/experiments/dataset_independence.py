"""Trained on one data set, judged on another: how much of what was learned belongs to the outfits of the training."""

from __future__ import annotations

from dataclasses import replace

from outfitgan.config import DataConfig
from outfitgan.errors import ConfigError
from outfitgan.evaluation.judge import FCTS, Judge
from outfitgan.experiments.arms import Arm, Outcome, Settings, parameters_of, train_arm
from outfitgan.experiments.experiment_report import apart, rows_of, write_report
from outfitgan.training.runs import Run
from outfitgan.training.scorer import load_scorer
from outfitgan.training.trained_networks import load_generator

_METRICS = ("SSIM", "distance (EfficientNet-Lite0)", "FID (EfficientNet-Lite0)", "KID (EfficientNet-Lite0)", FCTS)


def run(settings: Settings, sources: tuple[DataConfig, ...]) -> None:
    """Train on each of `sources` and judge each on all of them, by each one's own scorer."""
    if len({source.name for source in sources}) < 2:
        raise ConfigError("dataset-independence needs two data sets: give --on twice, as in --on ccp=FOLDER.")
    outcomes: list[Outcome] = []
    for seed in settings.seeds:
        runs = {source.name: _trained(source, seed, settings) for source in sources}
        for judged, home in runs.items():
            judge = Judge(home.config, load_scorer(home), settings.count)
            for trained, other in runs.items():
                generator = load_generator(other)
                metrics = judge.measure(judge.generate(generator))
                name = f"{trained} on {judged}"
                outcomes.append(Outcome(name, seed, metrics, parameters_of(generator), None))
    rows = rows_of(outcomes, _METRICS)
    at_home = {row.arm: row for row in rows}
    notes = [
        apart(metric, at_home[f"{source.name} on {source.name}"], at_home[f"{other.name} on {source.name}"])
        for source in sources
        for other in sources
        if other.name != source.name
        for metric in ("SSIM", "KID (EfficientNet-Lite0)", FCTS)
    ]
    write_report("dataset-independence", "Trained on one data set, judged on another", rows, outcomes, notes, settings)


def _trained(source: DataConfig, seed: int, settings: Settings) -> Run:
    settings.console.print(f"{source.name}, seed {seed}", style="bold")
    own = replace(settings, config=replace(settings.config, data=source))
    return train_arm(Arm(source.name), seed, own, None)

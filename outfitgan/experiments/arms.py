"""What an experiment compares: arms that differ in a few fields of a config, trained over several seeds.

Every arm of a seed sees the same outfits, and the same CCM teaches and the same scorer judges it. All of it resumes: an
arm that is trained is not trained again, one that was measured is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from outfitgan.config import Config, override
from outfitgan.errors import RunError
from outfitgan.evaluation.judge import Judge
from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.evaluation.table import Metric
from outfitgan.files import atomic_write
from outfitgan.networks.architectures import OutfitGenerator
from outfitgan.training.runs import Run
from outfitgan.training.scorer import STAGE as SCORER
from outfitgan.training.scorer import load_scorer
from outfitgan.training.train import train_run
from outfitgan.training.trained_networks import load_generator

_ROUNDS = 15  # of one outfit by each generator in turn


@dataclass(frozen=True)
class Arm:
    """One thing to compare: its name and the fields that make it."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)  # dotted fields, as `override` takes them


@dataclass(frozen=True)
class Settings:
    """What every experiment needs to know."""

    output: Path
    config: Config  # what all arms share
    seeds: tuple[int, ...]
    count: int  # held-out outfits that are measured; 0 for all
    console: Console


@dataclass(frozen=True)
class Outcome:
    """One arm of one seed, measured."""

    arm: str
    seed: int
    metrics: list[Metric]
    parameters: int | None  # of all generators; None where none was trained
    step_seconds: float | None  # median of a training step; None where it was not measured

    def interval(self, metric: str, kind: str = "all") -> Interval | None:
        """Return one metric's interval, None if it is missing."""
        found = (m.interval for m in self.metrics if (m.name, str(m.kind)) == (metric, kind))
        return next(found, None)


def compare(arms: Sequence[Arm], settings: Settings) -> list[Outcome]:
    """Train and measure every arm over every seed; raises StoppedError after Ctrl-C, and resumes when called again."""
    outcomes = []
    for seed in settings.seeds:
        judge, first = None, None
        for arm in arms:
            settings.console.print(f"{arm.name}, seed {seed}", style="bold")
            run = train_arm(arm, seed, settings, first)
            first = first or run
            outcome = recall(run, settings)
            if outcome is None:
                judge = judge or Judge(first.config, load_scorer(first), settings.count)
                outcome = _measure(arm, seed, run, judge)
                keep(run, settings, outcome)
            outcomes.append(outcome)
    return outcomes


def train_arm(arm: Arm, seed: int, settings: Settings, teacher: Run | None) -> Run:
    """Return the arm's run, trained to its end; `teacher`, an arm of the same seed, lends it its CCM."""
    run = open_arm(arm, seed, settings)
    if teacher is not None and not run.step("collocation"):
        adopt(run, teacher, "collocation")
    train_run(run)
    return run


def open_arm(arm: Arm, seed: int, settings: Settings) -> Run:
    """Return the arm's run, begun if it was not; raise RunError where its folder holds one of other settings."""
    folder = settings.output / "runs" / f"{arm.name.replace(' ', '-')}-{seed}"
    config = override(settings.config, {"training.seed": seed, **arm.changes})
    run = Run.open(folder) if (folder / "config.toml").is_file() else Run.create(folder, config)
    if run.config != config:
        raise RunError(f"{folder} was trained with other settings; choose another --output, or remove it.")
    return run


def adopt(run: Run, other: Run, stage: str) -> None:
    """Copy a stage's checkpoint of another run, if it is of the same CCM on the same outfits."""
    mine, theirs = (r.config for r in (run, other))
    same = (mine.model.collocation, mine.data, mine.training.seed) == (
        theirs.model.collocation,
        theirs.data,
        theirs.training.seed,
    )
    if same and mine.training.collocation_steps == other.step(stage):
        run.save(stage, other.step(stage), other.load(stage))


def parameters_of(generator: OutfitGenerator) -> int:
    """Return how many numbers a generator has learned."""
    return sum(parameter.numel() for parameter in generator.parameters())


def outfit_milliseconds(generators: Sequence[OutfitGenerator], config: Config) -> list[float]:
    """Return each generator's median time of one outfit in torch, in milliseconds; they take turns.

    In turns, so that whatever else the machine does slows all of them alike.
    """
    size, targets = config.model.image_size, len(config.model.targets)
    source, masks = torch.zeros(1, 3, size, size), torch.ones(1, targets, 1, size, size)
    times: list[list[float]] = [[] for _ in generators]
    with torch.inference_mode():
        for _ in range(_ROUNDS + 1):
            for generator, taken in zip(generators, times, strict=True):
                began = time.perf_counter()
                generator(source, masks)
                taken.append(time.perf_counter() - began)
    return [1000 * median(taken[1:]) for taken in times]


def _measure(arm: Arm, seed: int, run: Run, judge: Judge) -> Outcome:
    generator = load_generator(run)
    metrics = judge.measure(judge.generate(generator))
    lines = (run.folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [entry["seconds"] for entry in map(json.loads, lines) if entry["stage"] == "outfit"]
    return Outcome(arm.name, seed, metrics, parameters_of(generator), median(steps))


def keep(run: Run, settings: Settings, outcome: Outcome) -> None:
    """Write what was measured of a run's weights."""
    content = {"key": _key(run, settings), "outcome": asdict(outcome)}
    atomic_write(_measured(run, settings), (json.dumps(content, indent=1) + "\n").encode())


def recall(run: Run, settings: Settings) -> Outcome | None:
    """Return what `keep` wrote of these very weights, over as many outfits; None if it did not."""
    path = _measured(run, settings)
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("key") != _key(run, settings) or set(content["outcome"]) != {part.name for part in fields(Outcome)}:
        return None  # of other weights, or by another version
    return _outcome_from(content["outcome"])


def _measured(run: Run, settings: Settings) -> Path:
    return settings.output / "measured" / f"{run.folder.name}.json"


def _key(run: Run, settings: Settings) -> str:
    index = (run.folder / "checkpoints" / "checkpoints.json").read_text(encoding="utf-8")
    entries = {stage: entry for stage, entry in json.loads(index).items() if stage != SCORER}
    return hashlib.sha256(json.dumps([entries, settings.count], sort_keys=True).encode()).hexdigest()


def _outcome_from(data: dict[str, Any]) -> Outcome:
    metrics = [
        Metric(**{**metric, "interval": metric["interval"] and Interval(**metric["interval"])})
        for metric in data["metrics"]
    ]
    return Outcome(**{**data, "metrics": metrics})

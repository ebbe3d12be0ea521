"""All orders of the four kinds: does it matter to the CCM in which it reads an outfit? The paper assumes one."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import permutations

from outfitgan.config import Config, override
from outfitgan.data.store_files import VARIANTS
from outfitgan.evaluation.classifier import measure_classifier
from outfitgan.evaluation.table import Metric
from outfitgan.experiments.arms import Outcome, Settings, outcome_from
from outfitgan.experiments.report import apart, rows_of, write_report
from outfitgan.files import atomic_write
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.training.collocation import CollocationTrainer
from outfitgan.training.device import accelerator_for
from outfitgan.training.loop import train_loop, training_progress
from outfitgan.training.runs import Run
from outfitgan.training.train import open_batches

_METRICS = ("AUC, CCM", "fill in the blank, CCM")


def run(settings: Settings) -> None:
    """Train a CCM for each of the 24 orders over every seed, and rank them by AUC."""
    outcomes = []
    for seed in settings.seeds:
        for order in permutations(COLLOCATION_ORDER):
            outcomes.append(_outcome(order, seed, settings))
    rows = sorted(rows_of(outcomes, _METRICS), key=lambda row: -row.intervals[_METRICS[0]].value)
    paper = next(row for row in rows if row.arm == _name(COLLOCATION_ORDER))
    values = [row.intervals[_METRICS[0]].value for row in rows]
    notes = [
        f"The paper's order is number {rows.index(paper) + 1} of {len(rows)} by AUC; all lie in "
        f"{min(values):.3f} to {max(values):.3f}.",
        apart(_METRICS[0], rows[0], rows[-1]),
    ]
    write_report("sequence-order", "Orders in which the CCM reads an outfit", rows, outcomes, notes, settings)


def _outcome(order: tuple[ItemKind, ...], seed: int, settings: Settings) -> Outcome:
    """Return what was measured of an order, training its CCM if it was not."""
    name = _name(order)
    path = settings.output / "measured" / f"{name.replace(' ', '-')}-{seed}.json"
    if path.is_file():
        return outcome_from(json.loads(path.read_text(encoding="utf-8")))
    settings.console.print(f"{name}, seed {seed}", style="bold")
    config = override(settings.config, {"model.collocation.order": list(order), "training.seed": seed})
    outcome = Outcome(name, seed, _trained_and_measured(path.stem, config, settings), 0, 0.0)
    atomic_write(path, (json.dumps(asdict(outcome), indent=1) + "\n").encode())
    return outcome


def _trained_and_measured(name: str, config: Config, settings: Settings) -> list[Metric]:
    folder = settings.output / "runs" / name
    run = Run.open(folder) if (folder / "config.toml").is_file() else Run.create(folder, config)
    accelerator = accelerator_for(config.training)
    with training_progress(accelerator) as progress:
        batches = open_batches(config, config.model.collocation.input_size, accelerator, progress, VARIANTS)
        trainer = CollocationTrainer(config, batches, accelerator)
        train_loop(run, trainer, config.training.collocation_steps, progress, accelerator)
    return measure_classifier(trainer.classifier.eval(), config, "CCM")


def _name(order: tuple[ItemKind, ...]) -> str:
    return " ".join(order)

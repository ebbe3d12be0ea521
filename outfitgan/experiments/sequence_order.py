"""All orders of the four kinds: does it matter to the CCM in which it reads an outfit? The paper assumes one."""

from __future__ import annotations

from itertools import permutations

from outfitgan.data.store_files import VARIANTS
from outfitgan.evaluation.classifier_measures import measure_classifier
from outfitgan.experiments.arms import Arm, Outcome, Settings, keep, open_arm, recall
from outfitgan.experiments.experiment_report import apart, rows_of, write_report
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.training.collocation_trainer import CollocationTrainer
from outfitgan.training.device import accelerator_for
from outfitgan.training.loop import train_loop, training_progress
from outfitgan.training.runs import Run
from outfitgan.training.train import open_batches
from outfitgan.training.trained_networks import load_classifier

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
    """Return what is measured of an order, training its CCM if it was not."""
    name = _name(order)
    settings.console.print(f"{name}, seed {seed}", style="bold")
    run = open_arm(Arm(name, {"model.collocation.order": list(order)}), seed, settings)
    if run.step("collocation") < run.config.training.collocation_steps:
        _train(run)
    outcome = recall(run, settings)
    if outcome is None:
        metrics = measure_classifier(load_classifier(run), run.config, "CCM", settings.count)
        outcome = Outcome(name, seed, metrics, None, None)
        keep(run, settings, outcome)
    return outcome


def _train(run: Run) -> None:
    """Train the CCM alone."""
    config = run.config
    accelerator = accelerator_for(config.training)
    with training_progress(accelerator) as progress:
        batches = open_batches(config, config.model.collocation.input_size, accelerator, progress, VARIANTS)
        trainer = CollocationTrainer(config, batches, accelerator)
        train_loop(run, trainer, config.training.collocation_steps, progress, accelerator)


def _name(order: tuple[ItemKind, ...]) -> str:
    return " ".join(order)

"""`outfitgan evaluate`: a run's metrics on held-out outfits, as a table, JSON and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.text import Text
from torch import Tensor

from outfitgan.config import Config, override
from outfitgan.evaluation.classifier_measures import measure_classifier
from outfitgan.evaluation.correspondence_sheet import Looking, correspondence_sheet
from outfitgan.evaluation.judge import Judge, seen_in_training
from outfitgan.evaluation.table import Metric, show_metrics, write_metrics
from outfitgan.files import partial_file
from outfitgan.networks.architectures import OutfitGenerator, alignments_of
from outfitgan.training.runs import Run
from outfitgan.training.sample_grid import sample_grid
from outfitgan.training.scorer import STAGE as SCORER
from outfitgan.training.scorer import load_scorer
from outfitgan.training.trained_networks import load_classifier, load_generator

_ROWS = 8  # outfits in the sample picture
_SHEETS = 3  # correspondence pictures


def evaluate_run(
    run: Run,
    output: Path,
    console: Console,
    count: int = 0,  # held-out outfits at the most; 0 for all
    data: str | None = None,  # another data set than the run's, with its folder
    root: str | None = None,
) -> list[Metric]:
    """Measure a run's generators, CCM and scorer; write metrics.json, outfits.png and correspondence-<n>.png.

    The scorer of FCTS is trained first where the run has none.
    """
    config = _judged(run, data, root)
    generator, classifier, scorer = load_generator(run), load_classifier(run), load_scorer(run)
    judge = Judge(config, scorer, count)
    console.print(f"Generating {len(judge.names)} outfits of {config.data.name}, test split ...", style="dim")
    made = judge.generate(generator)  # (N, T, 3, S, S)
    metrics = judge.measure(made)
    for network, name in ((classifier, "CCM"), (scorer, "scorer")):
        metrics += measure_classifier(network, config, name, count)
    show_metrics(metrics, f"{run.folder}: {config.data.name}, test split", console)
    facts = facts_of(run, config, len(judge.names))
    for note in facts["notes"]:
        console.print(Text(f"note: {note}", style="yellow"))
    write_metrics(metrics, facts, output / "metrics.json")
    write_pictures(judge, generator, made, config, output)
    return metrics


def evaluation_folder(run: Run, data: str | None = None, root: str | None = None) -> Path:
    """Return where an evaluation is written by default; one on another data set is kept apart."""
    config = _judged(run, data, root)
    return run.folder / ("evaluation" if config.data == run.config.data else f"evaluation-{config.data.name}")


def facts_of(run: Run, config: Config, outfits: int) -> dict[str, Any]:
    """Return what a run's figures are of, and what to bear in mind with them."""
    return {
        "data": config.data.name,
        "root": config.data.root,
        "split": "test",
        "outfits": outfits,
        "image_size": config.model.image_size,
        "seed": config.training.seed,
        "steps": {stage: run.step(stage) for stage in ("collocation", "outfit", SCORER)},
        "notes": seen_in_training(config),
    }


def _judged(run: Run, data: str | None, root: str | None) -> Config:
    """Return the run's config with the data that it is judged on."""
    return override(run.config, {"data.name": data, "data.root": root})


def write_pictures(judge: Judge, generator: OutfitGenerator, made: Tensor, config: Config, output: Path) -> None:
    """Write outfits.png, and where the generator has SAMs, where they looked."""
    targets = config.model.targets
    rows = judge.outfits(slice(_ROWS))
    items = {kind: made[:_ROWS, index] for index, kind in enumerate(targets)}
    with partial_file(output / "outfits.png") as partial:
        sample_grid(rows, items, config.model.source).save(partial, format="PNG")
    for stale in output.glob("correspondence-*.png"):  # of an evaluation of more outfits
        stale.unlink()
    looking = {kind: cast(Looking, module) for kind, module in alignments_of(generator).items()}
    for number in range(min(_SHEETS, len(judge.names)) if looking else 0):
        sheet = correspondence_sheet(
            looking,
            rows.image(config.model.source)[number],
            {kind: rows.mask(kind)[number] for kind in targets},
            {kind: item[number] for kind, item in items.items()},
            config.model.alignment_grid,
        )
        with partial_file(output / f"correspondence-{number}.png") as partial:
            sheet.save(partial, format="PNG")

"""`outfitgan evaluate`, `experiment` and `parity`: what a run is worth, and how exactly each hop computes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import out, print_dim, print_line, tables
from cli.shared_options import ConfigFile, DataName, DataRoot, Fields, RunOption, absolute, config_changes
from outfitgan.errors import ConfigError, RunError

app = typer.Typer()

EXPERIMENTS = {
    "sam-ablation": "the SAM against plain concatenation",
    "collocation-weight": "the weight of the CCM's loss, swept against that of the perceptual loss",
    "sequence-order": "all 24 orders in which the CCM may read an outfit",
    "correspondence": "where a trained run's SAMs look (--run; it trains nothing: only --count counts besides)",
    "baselines": "against pix2pix and pix2pixHD, same outfits and steps",
    "dataset-independence": "trained on one data set, judged on another (--on, twice)",
    "failure-signs": "the paper's failure signs, measured on generators made to show them",
    "shared-generator": "one generator for all kinds against one for each",
    "hires": "one more stage against the full size all through",
}
_LISTING = "\n\n".join(f"{name}: {what}." for name, what in EXPERIMENTS.items())


@app.command()
def evaluate(
    run: RunOption,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write; <run>/evaluation by default, with -NAME behind it for other --data."),
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="Held-out outfits at the most; 0 takes all.")] = 0,
    name: DataName = None,
    root: DataRoot = None,
) -> None:
    """Measure a run on held-out outfits: a table with bootstrap intervals, metrics.json and pictures.

    They are of the run's own data set unless another is named.
    """
    from outfitgan.evaluation.evaluate import evaluate_run, evaluation_folder
    from outfitgan.training.runs import Run

    trained, data_root = Run.open(run), absolute(root)
    folder = output or evaluation_folder(trained, name, data_root)
    evaluate_run(trained, folder, tables, count, name, data_root)
    print_line(f"Wrote {folder}/metrics.json; look at {folder}/outfits.png.")


@app.command(
    help=f"Run one experiment to its table, plot and JSON; Ctrl-C stops it, the same command goes on.\n\n{_LISTING}"
)
def experiment(
    experiment: Annotated[str, typer.Argument(help="Which one; see below.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Folder for runs, measurements and the report.")],
    preset: Annotated[str, typer.Option(help="What all arms share.")] = "study",
    config: ConfigFile = None,
    name: DataName = None,
    root: DataRoot = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings of each arm; none for correspondence.")] = 3,
    count: Annotated[int, typer.Option(min=0, help="Held-out outfits that are measured; 0 takes all.")] = 256,
    fields: Fields = None,
    run: Annotated[Path | None, typer.Option(help="The run that correspondence looks at.")] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=FOLDER of a data set, for dataset-independence.")
    ] = None,
) -> None:
    """Run one experiment; its help is built above, from the list."""
    if experiment not in EXPERIMENTS:
        raise ConfigError(f"There is no experiment '{experiment}'; choose from {', '.join(EXPERIMENTS)}.")
    from outfitgan.config import load_config, load_preset, override
    from outfitgan.experiments.arms import Settings

    base = load_config(config) if config else load_preset(preset)
    shared = override(base, config_changes(name, root, fields))
    settings = Settings(output, shared, tuple(range(seeds)), count, tables)
    _run(experiment, settings, run, on or [])


@app.command()
def parity(run: RunOption) -> None:
    """Compare every hop from torch to the served ensemble: one table, and <run>/parity.json."""
    from outfitgan.training.runs import Run
    from serving.complete_run import complete_run
    from serving.parity.hop_table import ENGINES, parity_table
    from serving.parity.parity_report import show_parity, write_parity

    opened = Run.open(run)
    refused = complete_run(opened, 0, print_dim, ENGINES)
    table = parity_table(opened, refused)
    reasons = [f"{' '.join(engine)}: {why}" for engine, why in refused.items()]
    show_parity(table, reasons, out)
    print_line(f"Wrote {write_parity(table, reasons, run / 'parity.json')}.")


def _run(name: str, settings: Any, run: Path | None, on: list[str]) -> None:
    from importlib import import_module

    module = import_module(f"outfitgan.experiments.{name.replace('-', '_')}")
    if name == "correspondence":
        from outfitgan.training.runs import Run

        if run is None:
            raise RunError("correspondence looks at a trained run: give --run FOLDER.")
        module.run(settings, Run.open(run))
    elif name == "dataset-independence":
        module.run(settings, tuple(_source(settings.config.data, text) for text in on))
    else:
        module.run(settings)


def _source(data: Any, text: str) -> Any:
    name, _, folder = text.partition("=")
    return dataclasses.replace(data, name=name, root=absolute(folder) or "")

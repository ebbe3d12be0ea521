"""`outfitgan train` and `outfitgan train-masks`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.console import print_dim, print_line
from cli.shared_options import ConfigFile, DataName, DataRoot, Fields, RunOption, config_changes
from outfitgan.errors import InputError

app = typer.Typer()


@app.command()
def train(
    run: RunOption,
    preset: Annotated[
        str | None, typer.Option(help="small by default; paper, photos, shared, hires, demo, study, tiny.")
    ] = None,
    config: ConfigFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")] = False,
    name: DataName = None,
    root: DataRoot = None,
    source: Annotated[str | None, typer.Option(help="The kind that is given: upper, bag, lower or shoes.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Generator steps.")] = None,
    collocation_steps: Annotated[int | None, typer.Option(help="CCM steps, which come first.")] = None,
    batch: Annotated[int | None, typer.Option(help="Outfits a step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, data and batches.")] = None,
    fields: Fields = None,
) -> None:
    """Train the CCM, then the generators against it. Ctrl-C leaves a checkpoint."""
    from outfitgan.items import ItemKind
    from outfitgan.training.runs import Run
    from outfitgan.training.train import chosen_config, train_run

    changes: dict[str, Any] = {
        "model.source": None if source is None else ItemKind.parse(source),
        "model.image_size": image_size,
        "training.steps": steps,
        "training.collocation_steps": collocation_steps,
        "training.batch": batch,
        "training.seed": seed,
        **config_changes(name, root, fields),
    }
    if resume and (preset or config or any(value is not None for value in changes.values())):
        raise InputError("--resume continues the run with its own config; leave the other options out.")
    opened = Run.open(run) if resume else Run.create(run, chosen_config(preset, config, changes))
    if opened.config.losses.perceptual == 0:
        print_dim("The perceptual (VGG-16) loss has weight 0 in this config.")
    train_run(opened, goes_on=f"continue with --resume --run {run}")
    print_line(f"Trained: {run}/checkpoints, {run}/samples, {run}/stats.jsonl.")


@app.command()
def train_masks(run: RunOption) -> None:
    """Train a run's mask generators, which make reference masks from the photo alone; goes on where it stood."""
    from outfitgan.training.runs import Run
    from outfitgan.training.train import train_masks as train_mask_generators

    train_mask_generators(Run.open(run))
    print_line(f"Trained: {run}/checkpoints, {run}/stats.jsonl. Export and build the run to use its mask generators.")

"""What is measured: a run whose graphs, engines and repository all exist, and one real request for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from bench.spec import Images, feeds_of, images_of
from engines.store import EngineStore
from engines.targets import graph_precision
from export.calibration import open_calibration
from export.exported import CALIBRATED, FLOATS
from export.exporter import export_run
from export.graphs import makings
from export.modules import generator_modules, run_module
from outfitgan.config import ModelConfig, load_preset
from outfitgan.data.outfits import open_outfits
from outfitgan.errors import ConfigError, GraphError, RunError, UnsupportedError
from outfitgan.files import atomic_write
from outfitgan.folders import RunFolder
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.training.networks import load_classifier, load_generator, load_mask_generators
from outfitgan.training.runs import Run
from outfitgan.training.untrained import save_untrained
from serving.pipeline import engine_graphs, run_engines, run_graphs
from serving.repository import assemble

Say = Callable[[str], None]
_WHOLE = "untrained.txt"  # written last: a folder without it is made anew


def untrained_run(folder: Path, preset: str) -> Run:
    """Return a run of `preset` with its first weights: latency does not depend on their values, parity hardly."""
    config = load_preset(preset)
    if (folder / _WHOLE).is_file():
        run = Run.open(folder)
        if run.config != config:
            raise RunError(f"{folder} is of another version of the preset {preset}; remove it.")
        return run
    shutil.rmtree(folder, ignore_errors=True)
    run = Run.create(folder, config)
    save_untrained(run)
    atomic_write(folder / _WHOLE, b"An untrained run for the benchmark; safe to remove.\n")
    return run


def complete(
    run: Run,
    threads: int,
    say: Say,
    engines: Sequence[tuple[str, str]],  # targets with their precisions
    precisions: Sequence[str] = FLOATS,  # of graphs, besides those that engines are built from
) -> dict[tuple[str, str], str]:
    """Export and build what the run lacks, and assemble a repository of its own for the measurements.

    Returns the engines that cannot be had, by target and precision, with the reason: this machine does not run them, or
    the run cannot be exported in INT8.
    """
    folder = RunFolder(run.folder)
    for precision in precisions:
        _export(run, precision, say)
    store, refused = EngineStore(folder.engines), {}
    for target, precision in dict.fromkeys((("openvino", "fp32"), *engines)):
        try:
            _export(run, graph_precision(target, precision), say)
            say(f"building the {target} {precision} engines ...")
            store.build_all(engine_graphs(folder, target, precision), target, precision)
        except (UnsupportedError, GraphError, ConfigError) as error:
            refused[target, precision] = str(error)
    assemble(run.config.model, run_engines(folder, "openvino", "fp32"), measured_repository(run), threads)
    return refused


def _export(run: Run, precision: str, say: Say) -> None:
    """Export the graphs of one precision unless they are there."""
    folder = RunFolder(run.folder)
    try:
        run_graphs(folder, precision)
    except GraphError:
        say(f"exporting the {precision} graphs ...")
        networks = load_generator(run), load_classifier(run), load_mask_generators(run)
        calibration = open_calibration(run.config) if precision in CALIBRATED else None
        origin = folder.weights()
        export_run(*networks, run.config.model, folder.graphs, (precision,), None, origin, calibration)


def measured_repository(run: Run) -> Path:
    """Return where the repository that is measured lies, apart from the one that may be in service."""
    return run.folder / "bench" / "repository"


def write_inputs(run: Run, inputs: Path, reference: Path) -> None:
    """Write one held-out outfit's source and masks, and the items that torch makes of them in FP32, as .npz files."""
    model = run.config.model
    outfit = open_outfits(run.config.data, model.image_size, "test", run.config.training.seed)[0]
    source = outfit.items[model.source].image
    masks = {kind: outfit.items[kind].mask[..., None] for kind in model.targets}
    np.savez(inputs, SOURCE=source, **{f"MASK_{kind.name}": mask for kind, mask in masks.items()})
    modules, made = generator_modules(load_generator(run)), Images()
    for making in makings(model):
        contract = making.contract
        made |= images_of(making, run_module(modules[contract.name], contract, feeds_of(making, source, masks)))
    np.savez(reference, **made)


def parameter_count(model: ModelConfig) -> dict[str, int]:
    """Return the parameters of all generators of an outfit and of the CCM."""
    with torch.device("meta"):
        networks = {"generators": build_generator(model), "collocation": build_classifier(model)}
    return {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}

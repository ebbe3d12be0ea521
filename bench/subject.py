"""What is measured: an untrained run where none is given, and one real request for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from bench.spec import Images, images_of
from export.modules import generator_modules, run_module
from outfitgan.config import ModelConfig, load_preset
from outfitgan.data.open_outfits import open_outfits
from outfitgan.errors import RunError
from outfitgan.files import atomic_write
from outfitgan.model_graphs import item_graphs
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.training.runs import Run
from outfitgan.training.trained_networks import load_generator
from outfitgan.training.untrained import save_untrained

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


def write_inputs(run: Run, inputs: Path, reference: Path) -> None:
    """Write one held-out outfit's source and masks, and the items that torch makes of them in FP32, as .npz files."""
    model = run.config.model
    outfit = open_outfits(run.config.data, model.image_size, "test", run.config.training.seed)[0]
    source = outfit.items[model.source].image
    masks = {kind: outfit.items[kind].mask[..., None] for kind in model.targets}
    np.savez(inputs, SOURCE=source, **{f"MASK_{kind.name}": mask for kind, mask in masks.items()})
    modules, made = generator_modules(load_generator(run)), Images()
    for item_graph in item_graphs(model):
        contract = item_graph.contract
        made |= images_of(item_graph, run_module(modules[contract.name], contract, item_graph.feeds(source, masks)))
    np.savez(reference, **made)


def parameter_count(model: ModelConfig) -> dict[str, int]:
    """Return the parameters of all generators of an outfit and of the CCM."""
    with torch.device("meta"):
        networks = {"generators": build_generator(model), "collocation": build_classifier(model)}
    return {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}

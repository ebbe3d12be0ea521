"""What is measured: a run whose graphs, engines and repository all exist, and one real request for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from engines.store import EngineStore
from export.exported import PRECISIONS, find_graphs
from export.exporter import export_run
from outfitgan.config import load_preset
from outfitgan.data.outfits import open_outfits
from outfitgan.errors import EngineError, GraphError
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.generator import Generator
from outfitgan.training.batches import Batches
from outfitgan.training.collocation import CollocationTrainer
from outfitgan.training.outfit import OutfitTrainer
from outfitgan.training.runs import Run
from outfitgan.training.train import load_classifier, load_generators
from serving.pipeline import run_engines
from serving.repository import assemble

Say = Callable[[str], None]


def untrained_run(folder: Path, preset: str) -> Run:
    """Return a run of `preset` with its first weights: latency does not depend on their values, parity hardly."""
    if (folder / "config.toml").exists():
        return Run.open(folder)
    config = load_preset(preset)
    run = Run.create(folder, config)
    outfits = open_outfits(config.data, config.model.image_size, "train", config.training.seed)
    batches = Batches(outfits, config.model.image_size, config.training.seed)
    collocation = CollocationTrainer(config, batches)
    run.save("collocation", 1, collocation.state())
    run.save("outfit", 1, OutfitTrainer(config, batches, collocation.classifier).state())
    return run


def complete(
    run: Run,
    threads: int,
    say: Say,
    precisions: Sequence[str] = PRECISIONS,
    engines: Sequence[tuple[str, str]] = (("openvino", "fp32"), ("onnxruntime", "fp32")),
) -> list[str]:
    """Export, build and assemble what the run lacks; return what cannot be built here, a sentence each."""
    graphs = run.folder / "graphs"
    for precision in precisions:
        try:
            find_graphs(graphs, precision)
        except GraphError:
            say(f"exporting the {precision} graphs ...")
            export_run(load_generators(run), load_classifier(run), run.config.model, graphs, (precision,))
    store, refused = EngineStore(run.folder / "engines"), []
    for target, precision in dict.fromkeys((("openvino", "fp32"), *engines)):
        say(f"building the {target} {precision} engines ...")
        try:
            for graph in find_graphs(graphs, "fp32").values():
                store.build(graph, target, precision)
        except EngineError as error:
            refused.append(f"{target} {precision}: {error}")
    say("assembling the repository ...")
    assemble(run.config.model, run_engines(run.folder, "openvino", "fp32"), run.folder / "repository", threads)
    return refused


def write_inputs(run: Run, path: Path) -> None:
    """Write one held-out outfit's source and masks as an .npz file."""
    model = run.config.model
    outfit = open_outfits(run.config.data, model.image_size, "test", run.config.training.seed)[0]
    masks = {f"MASK_{kind.name}": outfit.items[kind].mask[..., None] for kind in model.targets}
    np.savez(path, SOURCE=outfit.items[model.source].image, **masks)


def parameter_count(run: Run) -> dict[str, int]:
    """Return the parameters of one generator and of the CCM."""
    with torch.device("meta"):
        networks = {"generator": Generator(run.config.model), "collocation": CollocationClassifier(run.config.model)}
    return {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}

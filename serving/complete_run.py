"""What a run lacks before it is measured: its graphs, its engines, and a repository of its own for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from engines.engine_store import EngineStore
from engines.registry import graph_precision, load_runtime
from export.calibration import open_calibration
from export.exported import CALIBRATED, FLOATS
from export.exporter import export_run
from export.forms import form_of
from outfitgan.errors import ConfigError, GraphError, UnsupportedError
from outfitgan.run_folder import RunFolder
from outfitgan.training.runs import Run
from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators
from serving.repository.assemble import assemble
from serving.run_pipeline import engine_graphs, exported_graphs, run_engines


def complete_run(
    run: Run,
    threads: int,  # an engine; 0: all cores
    report: Callable[[str], None],  # called with what is done, a sentence each
    engines: Sequence[tuple[str, str]],  # runtimes with their precisions
    precisions: Sequence[str] = FLOATS,  # of graphs, besides those that engines are built from
) -> dict[tuple[str, str], str]:
    """Export and build what the run lacks, and assemble a repository of its own for the measurements.

    Returns the engines that cannot be had, by runtime and precision, with the reason: this machine does not run them,
    or the run cannot be exported in INT8.
    """
    folder = RunFolder(run.folder)
    for precision in precisions:
        _export(run, precision, "standard", report)
    store, refused = EngineStore(folder.engines), {}
    for runtime, precision in dict.fromkeys((("openvino", "fp32"), *engines)):
        try:
            _export(run, graph_precision(runtime, precision), load_runtime(runtime).form(), report)
            report(f"building the {runtime} {precision} engines ...")
            store.build_all(engine_graphs(folder, runtime, precision), runtime, precision)
        except (UnsupportedError, GraphError, ConfigError) as error:
            refused[runtime, precision] = str(error)
    assemble(run.config.model, run_engines(folder, "openvino", "fp32"), measured_repository(run), threads)
    return refused


def measured_repository(run: Run) -> Path:
    """Return where the repository that is measured lies, apart from the one that may be in service."""
    return run.folder / "bench" / "repository"


def _export(run: Run, precision: str, form: str, report: Callable[[str], None]) -> None:
    """Export the graphs of one precision and form unless they are there."""
    folder = RunFolder(run.folder)
    try:
        exported_graphs(folder, precision, form)
    except GraphError:
        report(f"exporting the {precision} graphs ...")
        networks = load_generator(run), load_classifier(run), load_mask_generators(run)
        calibration = open_calibration(run.config) if precision in CALIBRATED else None
        origin, output, made = folder.weights(), folder.graphs_of(form), form_of(form)
        export_run(*networks, run.config.model, output, (precision,), origin=origin, calibration=calibration, form=made)

"""A run's exported graphs, its engines, and the pipeline over them."""

from __future__ import annotations

from pathlib import Path

from engines.engine_store import EngineStore
from engines.registry import engine_precision, graph_precision, load_runtime
from export.exported import ExportedGraph, find_graphs
from outfitgan.errors import EngineError, GraphError
from outfitgan.model_graphs import contracts_of
from outfitgan.run_folder import RunFolder
from serving.in_process import OutfitPipeline


def exported_graphs(run: RunFolder, precision: str = "fp32", form: str = "standard") -> dict[str, ExportedGraph]:
    """Return the graphs of a run's present weights; raise GraphError if they were not exported since."""
    run.config()
    folder = run.graphs_of(form)
    if form != "standard" and not folder.is_dir():
        raise GraphError(
            f"This runtime builds from {form} graphs, and {run.path} has none; export them with 'outfitgan export "
            f"--run {run.path} --form {form}'."
        )
    return find_graphs(folder, precision, run.weights())


def engine_graphs(run: RunFolder, runtime: str, precision: str) -> dict[str, ExportedGraph]:
    """Return the graphs that a run's engines are built from; raises what `exported_graphs` and `load_runtime` raise."""
    run.config()  # an unknown run is reported before a missing package
    return exported_graphs(run, graph_precision(runtime, precision), load_runtime(runtime).form())


def run_engines(run: RunFolder, runtime: str, precision: str) -> dict[str, Path]:
    """Return the engine folder of each graph of a run; raise EngineError if one was not built."""
    store = EngineStore(run.engines)
    folders: dict[str, Path] = {}
    for name, graph in engine_graphs(run, runtime, precision).items():
        folder = store.find(graph, runtime, engine_precision(name, runtime, precision))
        if folder is None:
            raise EngineError(
                f"{name} has no {runtime} {precision} engine yet; build it with 'outfitgan build --run {run.path} "
                f"--runtime {runtime} --precision {precision}'."
            )
        folders[name] = folder
    return folders


def run_pipeline(run: RunFolder, runtime: str, precision: str, threads: int = 0) -> OutfitPipeline:
    """Return a pipeline over a run's engines; raises what `run_engines` and `contracts_of` raise."""
    folders = run_engines(run, runtime, precision)
    return OutfitPipeline(contracts_of(run.config().model, folders), folders, threads)

"""The whole chain once, on a CPU, with the real server: what `make demo` runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from engines.engine_store import EngineStore
from engines.manifest import parse_manifest
from engines.registry import load_runtime
from export.exported import FLOATS
from export.exporter import export_run
from outfitgan.config import load_preset
from outfitgan.data.examples import write_examples
from outfitgan.errors import EngineError, RunError
from outfitgan.files import atomic_write
from outfitgan.run_folder import RunFolder
from outfitgan.training.runs import Run
from outfitgan.training.train import train_run
from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators
from serving.client.outfit_client import OutfitClient
from serving.generation import generate_here, generate_served
from serving.repository.assemble import assemble
from serving.request import read_request
from serving.run_pipeline import engine_graphs, exported_graphs, run_engines, run_pipeline
from serving.server.triton_server import TritonServer

_MARK = "demo.txt"  # only a folder with this file is ever replaced
_RUNTIME, _PRECISION = "openvino", "fp32"
_GPU_RUNTIME, _GPU_PRECISION = "tensorrt-rtx", "fp16"

Report = Callable[[str], None]


def run_demo(folder: Path, preset: str, report: Report) -> None:
    """Train, export, build, assemble, serve and generate into `folder`, reporting each stage and its seconds."""
    config = load_preset(preset)
    if (folder / _MARK).is_file():
        shutil.rmtree(folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} holds something else than a demo's run; choose another --output.")
    began = time.perf_counter()
    run = Run.create(folder, config)
    atomic_write(folder / _MARK, b"Made by `outfitgan demo`, which replaces this folder.\n")
    stages: list[tuple[str, Callable[[], None]]] = [
        ("1/6 train the CCM, then the generators (perceptual loss at weight 0: nothing is downloaded)", _train(run)),
        ("2/6 export generators, SAMs and CCM to ONNX in FP32 and FP16, checked against torch", _export(run)),
        (f"3/6 build {_RUNTIME} {_PRECISION} engines, checked against ONNX", _build(run)),
        ("4/6 build FP16 TensorRT engines for RTX GPUs, which needs none", _build_plans(run, report)),
        ("5/6 assemble the Triton model repository", _assemble(run)),
        ("6/6 start tritonserver, send one photo and three masks, stop it", _serve(run, report)),
    ]
    for title, stage in stages:
        report(title)
        started = time.perf_counter()
        stage()
        report(f"    {time.perf_counter() - started:.0f} s")
    report(f"Done in {time.perf_counter() - began:.0f} s. The outfit: {folder}/outfit/outfit.png")
    report(f"Run {folder}, graphs {folder}/graphs, engines {folder}/engines, repository {folder}/repository.")


def _train(run: Run) -> Callable[[], None]:
    return lambda: train_run(run, "the same command starts anew")


def _export(run: Run) -> Callable[[], None]:
    def stage() -> None:
        networks = load_generator(run), load_classifier(run), load_mask_generators(run)
        origin = RunFolder(run.folder).weights()
        export_run(*networks, run.config.model, run.folder / "graphs", FLOATS, origin=origin)

    return stage


def _build(run: Run) -> Callable[[], None]:
    def stage() -> None:
        folder = RunFolder(run.folder)
        EngineStore(folder.engines).build_all(exported_graphs(folder), _RUNTIME, _PRECISION)

    return stage


def _build_plans(run: Run, report: Report) -> Callable[[], None]:
    """Build for GPUs that this machine need not have; where TensorRT for RTX is not to be had, say so and go on."""

    def stage() -> None:
        folder = RunFolder(run.folder)
        try:
            load_runtime(_GPU_RUNTIME)
        except EngineError as error:
            report(f"    left out: {error}")
            return
        built = EngineStore(folder.engines).build_all(
            engine_graphs(folder, _GPU_RUNTIME, _GPU_PRECISION), _GPU_RUNTIME, _GPU_PRECISION
        )
        manifests = [parse_manifest(engine) for engine in built.values()]
        capabilities = ", ".join(manifests[0].details["compute_capabilities"])
        fused = sum(manifest.details["fused_correlations"] for manifest in manifests)
        report(
            f"    {len(built)} engines for compute capabilities {capabilities}; {fused} correlations, each one kernel"
        )
        if not all(manifest.verified for manifest in manifests):
            report(f"    not run yet: 'outfitgan verify {folder.engines}' on a machine with such a GPU measures them")

    return stage


def _assemble(run: Run) -> Callable[[], None]:
    def stage() -> None:
        folder = RunFolder(run.folder)
        assemble(run.config.model, run_engines(folder, _RUNTIME, _PRECISION), folder.repository)

    return stage


def _serve(run: Run, report: Report) -> Callable[[], None]:
    def stage() -> None:
        model = run.config.model
        write_examples(run.config.data, model.image_size, "test", run.config.training.seed, 4, run.folder / "examples")
        example = run.folder / "examples" / "000"
        source = example / f"{model.source}.png"
        masks = {kind: example / f"{kind}_mask.png" for kind in model.targets}
        with TritonServer(run.folder / "repository", log=run.folder / "server.log") as server:
            report(f"    server ready at {server.grpc_url}")
            with OutfitClient(server.grpc_url) as client:
                request = read_request(source, masks, model.targets, client)
                generate_served(client, request, run.folder / "outfit")  # the first request warms up
                served = generate_served(client, request, run.folder / "outfit")
        with run_pipeline(RunFolder(run.folder), _RUNTIME, _PRECISION) as pipeline:
            generate_here(pipeline, request, run.folder / "outfit_in_process")
        report(f"    served in {served['seconds']} s, compatibility {served['compatibility']:.2f}")

    return stage

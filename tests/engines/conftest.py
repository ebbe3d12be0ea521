from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from rtx_cases import CAPABILITY, without_gpu
from simulation import simulated

from engines.engine_store import EngineStore
from engines.tensorrt import tactics
from export.boundary import AlignmentGraph, CollocationGraph, GeneratorGraph, MaskGraph, OutfitGraph
from export.calibration import open_calibration
from export.exported import ExportedGraph
from export.exporter import export_graph
from outfitgan.config import load_preset, override
from outfitgan.files import sha256_of
from outfitgan.items import ItemKind
from outfitgan.model_graphs import (
    alignment_contract,
    collocation_contract,
    generator_contract,
    item_graphs,
    mask_generator_contract,
    outfit_contract,
)
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator


@pytest.fixture(scope="session")
def alignment(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(7)
    module = AlignmentGraph(SemanticAlignment(model.generator))
    contract = alignment_contract(ItemKind.BAG, model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def collocation_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(8)
    module, contract = CollocationGraph(build_classifier(model)), collocation_contract(model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / "collocation.fp32.onnx")


@pytest.fixture(scope="session")
def outfit_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """One generator for all kinds."""
    model = override(load_preset("tiny"), {"model.generator.architecture": "shared"}).model
    torch.manual_seed(9)
    module, contract = OutfitGraph(build_generator(model)), outfit_contract(model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def mask_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    model = load_preset("tiny").model
    torch.manual_seed(10)
    module = MaskGraph(MaskGenerator(model.mask_generator, convolution_of("instance")))
    contract = mask_generator_contract(ItemKind.SHOES, model)
    return export_graph(module, contract, "fp32", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp32.onnx")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    """A store that tests share; what they build in it stays."""
    return EngineStore(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="session")
def half_alignment(alignment: ExportedGraph) -> ExportedGraph:
    """The SAM in FP16."""
    torch.manual_seed(7)
    module = AlignmentGraph(SemanticAlignment(load_preset("tiny").model.generator))
    return export_graph(module, alignment.contract, "fp16", alignment.path.with_name(f"{alignment.name}.fp16.onnx"))


@pytest.fixture(scope="session")
def retrained_alignment(half_alignment: ExportedGraph) -> ExportedGraph:
    """The same architecture as `half_alignment` with one convolution shifted."""
    model = onnx.load(half_alignment.path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    shifted = onnx.numpy_helper.to_array(weight) + np.float16(0.1)
    weight.CopyFrom(onnx.numpy_helper.from_array(shifted, weight.name))
    path = half_alignment.path.with_name("retrained.fp16.onnx")
    onnx.save(model, path)
    return dataclasses.replace(half_alignment, path=path, sha256=sha256_of(path))


@pytest.fixture(scope="session")
def half_generator(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """A generator in FP16."""
    model = load_preset("tiny").model
    torch.manual_seed(11)
    module, contract = GeneratorGraph(build_generator(model).items["bag"]), generator_contract(ItemKind.BAG, model)
    return export_graph(module, contract, "fp16", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp16.onnx")


@pytest.fixture(scope="session")
def half_collocation(collocation_graph: ExportedGraph) -> ExportedGraph:
    """The CCM in FP16."""
    torch.manual_seed(8)
    module = CollocationGraph(build_classifier(load_preset("tiny").model))
    path = collocation_graph.path.with_name("collocation.fp16.onnx")
    return export_graph(module, collocation_graph.contract, "fp16", path)


@pytest.fixture(scope="session")
def half_mask_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """A mask generator in FP16."""
    model = load_preset("tiny").model
    torch.manual_seed(10)
    module = MaskGraph(MaskGenerator(model.mask_generator, convolution_of("instance")))
    contract = mask_generator_contract(ItemKind.SHOES, model)
    return export_graph(module, contract, "fp16", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp16.onnx")


@pytest.fixture(scope="session")
def half_outfit_graph(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """One generator for all kinds, in FP16."""
    model = override(load_preset("tiny"), {"model.generator.architecture": "shared"}).model
    torch.manual_seed(9)
    module, contract = OutfitGraph(build_generator(model)), outfit_contract(model)
    return export_graph(module, contract, "fp16", tmp_path_factory.mktemp("graph") / f"{contract.name}.fp16.onnx")


@pytest.fixture(scope="session")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """A generator in INT8 with FP16 around it."""
    config = load_preset("tiny")
    item_graph = item_graphs(config.model)[0]
    torch.manual_seed(11)
    module = GeneratorGraph(build_generator(config.model).items["bag"])
    path = tmp_path_factory.mktemp("graph") / "generator_bag.int8-fp16.onnx"
    return export_graph(module, item_graph.contract, "int8-fp16", path, open_calibration(config, 4).samples(item_graph))


@pytest.fixture(scope="session")
def rtx_store(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    """A store whose plans of TensorRT for RTX are for one kind of GPU, to be quick; what tests build in it stays."""
    store = EngineStore(tmp_path_factory.mktemp("rtx"))
    store.choose("tensorrt-rtx", {"compute_capabilities": [CAPABILITY]})
    return store


@pytest.fixture(scope="session")
def rtx_plan(rtx_store: EngineStore, half_generator: ExportedGraph) -> Path:
    """A real plan of a generator, built on a machine without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        without_gpu(patch)
        return rtx_store.build(half_generator, "tensorrt-rtx", "fp16")


@pytest.fixture(scope="session")
def rtx_fp32_plan(rtx_store: EngineStore, alignment: ExportedGraph) -> Path:
    """A real plan of a SAM in FP32."""
    with pytest.MonkeyPatch.context() as patch:
        without_gpu(patch)
        return rtx_store.build(alignment, "tensorrt-rtx", "fp32")


@pytest.fixture(scope="module")
def gpu() -> Iterator[SimpleNamespace]:
    """The simulated modules, on an Ampere GPU, whose kernels are the portable ones alone; one a layout, to be quick."""
    with simulated() as modules, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tactics, "_TACTICS", 1)
        modules.cuda.NAME, modules.cuda.CAPABILITY = "Simulated A10", (8, 6)
        yield modules
        assert modules.cuda.depth() == 0
        assert not modules.cuda.ALLOCATED
        assert not modules.graphs.GRAPHS


@pytest.fixture(scope="module")
def store(gpu: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    return EngineStore(tmp_path_factory.mktemp("tensorrt"))


@pytest.fixture(scope="module")
def plan(store: EngineStore, half_alignment: ExportedGraph) -> Path:
    return store.build(half_alignment, "tensorrt", "fp16")


@pytest.fixture(scope="module")
def whole(gpu: SimpleNamespace, half_alignment: ExportedGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same plan with one profile for all batches."""
    other = EngineStore(tmp_path_factory.mktemp("whole"))
    other.choose("tensorrt", {"profiles": "one"})
    return other.build(half_alignment, "tensorrt", "fp16")

"""What the tests of tensorrt-rtx build: graphs of one correlation or one convolution, and graphs spoilt on purpose."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.manifest import Profile
from engines.registry import load_runtime
from engines.settings import BuildSettings
from export.correlate_function import DOMAIN, OPSET, VERSION, correlate_function
from export.exported import ExportedGraph
from outfitgan.contracts import GraphContract, TensorSpec
from outfitgan.files import sha256_of
from outfitgan.progress import Progress, no_progress

CAPABILITY = "8.6"

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed; pip install 'outfitgan[rtx]'"
)


class _NoPycuda(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "pycuda":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def without_gpu(patch: pytest.MonkeyPatch) -> None:
    """Make this a machine without a GPU, whatever it has."""
    for name in ("pycuda", "pycuda.driver"):
        patch.delitem(sys.modules, name, raising=False)
    patch.setattr(sys, "meta_path", [_NoPycuda(), *sys.meta_path])


def settings(profile: Profile = Profile(1, 1, 8), progress: Progress = no_progress, **choices: Any) -> BuildSettings:  # noqa: B008
    """Return what `build_plan` takes, for one compute capability unless `choices` say otherwise."""
    options = load_runtime("tensorrt-rtx").options({"compute_capabilities": [CAPABILITY], **choices})
    return BuildSettings(profile, options, Path(), progress)


def correlation(
    path: Path,
    channels: int,  # of features
    values: int,  # channels of values
    side: int = 16,  # of the grid
    kind: int = TensorProto.FLOAT16,
) -> ExportedGraph:
    """Write a graph of one `Correlate` node."""
    sizes = {"TARGET": channels, "SOURCE": channels, "VALUES": values}
    temperature = helper.make_node("Correlate", [*sizes], ["WARPED"], "correlation", domain=DOMAIN, temperature=0.02)
    shapes = {name: (size, side, side) for name, size in {**sizes, "WARPED": values}.items()}
    return _written(path, [temperature], shapes, [], kind)


def convolution(path: Path, kind: int) -> ExportedGraph:
    """Write a graph of one convolution, which is said to be FP16."""
    weights = np.random.default_rng(1).standard_normal((32, 16, 3, 3)).astype(helper.tensor_dtype_to_np_dtype(kind))
    node = helper.make_node("Conv", ["FEATURES", "weight"], ["MADE"], "convolution", pads=[1, 1, 1, 1])
    shapes = {"FEATURES": (16, 16, 16), "MADE": (32, 16, 16)}
    graph = _written(path, [node], shapes, [numpy_helper.from_array(weights, "weight")], kind)
    return dataclasses.replace(graph, precision="fp16")


def _written(
    path: Path,
    nodes: list[onnx.NodeProto],
    shapes: dict[str, tuple[int, ...]],  # of the inputs, then of the one output
    weights: list[onnx.TensorProto],
    kind: int,
) -> ExportedGraph:
    infos = [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, path.stem, infos[:-1], infos[-1:], weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [correlate_function()] if nodes[0].domain == DOMAIN else []
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10), path)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name
    specs = [TensorSpec(name, dtype, shape, -1, 1) for name, shape in shapes.items()]
    contract = GraphContract(path.stem, tuple(specs[:-1]), tuple(specs[-1:]))
    precision = "fp16" if kind == TensorProto.FLOAT16 else "fp32"
    return ExportedGraph(path, contract, precision, sha256_of(path), "", {}, {})


def spoilt(graph: ExportedGraph, path: Path, change: Callable[[onnx.ModelProto], None]) -> ExportedGraph:
    """Return a copy of a graph in `path` after `change`."""
    model = onnx.load(graph.path)
    change(model)
    onnx.save(model, path)
    return dataclasses.replace(graph, path=path, sha256=sha256_of(path))


def table_of(caplog: pytest.LogCaptureFixture) -> str:
    """Return the one table of layers that a build has logged."""
    (table,) = [text for text in messages(caplog) if text.startswith("Layers:")]
    return table


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what TensorRT has logged, at the level DEBUG."""
    records = [record for record in caplog.records if record.name == "engines.plan.log"]
    return [record.getMessage().removeprefix("TensorRT: ") for record in records]


def listened(caplog: pytest.LogCaptureFixture) -> Any:
    """Return the context in which `caplog` has all that TensorRT logs."""
    caplog.clear()
    return caplog.at_level(logging.DEBUG, logger="engines.plan.log")

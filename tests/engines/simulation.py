"""Put the simulated TensorRT, TensorRT for RTX, PyCUDA and cuda-bindings in the place of the real ones for a while.

The builder of TensorRT for RTX stays the real one: `engines.tensorrt_rtx.rtx_build` keeps what it imported before.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

from compiler import compiled_apart

FOLDER = Path(__file__).parent / "simulated"
_PACKAGES = ("tensorrt", "tensorrt_rtx", "pycuda", "cuda")
_BOUND = (
    "engines.plan.api",
    "engines.plan.execution",
    "engines.plan.profile_context",
    "engines.plan.runner",
    "engines.tensorrt.build",
    "engines.tensorrt.inspect",
    "engines.tensorrt.plugin",
    "engines.tensorrt.refit",
    "engines.tensorrt_rtx.rtx_engine",
)
"""Modules of ours that import TensorRT when they are imported."""


@contextmanager
def simulated() -> Iterator[SimpleNamespace]:
    """Yield the simulated modules: trt, cuda (PyCUDA's driver), graphs (the driver of cuda-bindings).

    And rtx, where the real one is installed.
    """
    names = {"trt": "tensorrt", "cuda": "pycuda.driver", "graphs": "cuda.bindings.driver"}
    if find_spec("tensorrt_rtx"):
        names["rtx"] = "tensorrt_rtx"
        importlib.import_module("engines.tensorrt_rtx.rtx_build")
    before = _unload()
    sys.path.insert(0, str(FOLDER))
    importlib.invalidate_caches()
    try:
        modules = {short: importlib.import_module(name) for short, name in names.items()}
        with compiled_apart():
            yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(FOLDER))
        _unload()
        sys.modules.update(before)


def _unload() -> dict[str, object]:
    """Drop the packages, and our modules that hold on to them, from what is imported; return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]
    for bound in _BOUND:
        package, _, name = bound.rpartition(".")
        vars(importlib.import_module(package)).pop(name, None)
        if bound in sys.modules:
            names.append(bound)
    return {name: sys.modules.pop(name) for name in names}

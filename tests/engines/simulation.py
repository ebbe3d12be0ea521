"""Put the simulated TensorRT, PyCUDA and cuda-bindings in the place of the real ones for a while."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from compiler import compiled_apart

FOLDER = Path(__file__).parent / "simulated"
_PACKAGES = ("tensorrt", "pycuda", "cuda")
_BOUND = (
    "engines.plan.api",
    "engines.plan.execution",
    "engines.plan.profile_context",
    "engines.plan.runner",
    "engines.tensorrt.build",
    "engines.tensorrt.inspect",
    "engines.tensorrt.plugin",
    "engines.tensorrt.refit",
)
"""Modules of ours that import TensorRT when they are imported."""


@contextmanager
def simulated() -> Iterator[SimpleNamespace]:
    """Yield the simulated modules: trt, cuda (PyCUDA's driver) and graphs (the driver of cuda-bindings)."""
    before = _unload()
    sys.path.insert(0, str(FOLDER))
    importlib.invalidate_caches()
    try:
        names = {"trt": "tensorrt", "cuda": "pycuda.driver", "graphs": "cuda.bindings.driver"}
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

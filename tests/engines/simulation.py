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
_BOUND = ("runtime", "lane", "tensorrt_log", "tensorrt_build", "tensorrt_inspect", "tensorrt_plugin", "tensorrt_refit")
"""Modules of ours that import TensorRT when they are imported."""


@contextmanager
def simulated() -> Iterator[SimpleNamespace]:
    """Yield the simulated modules: trt, cuda (PyCUDA's driver) and graphs (the driver of cuda-bindings)."""
    before = _taken()
    sys.path.insert(0, str(FOLDER))
    importlib.invalidate_caches()
    try:
        names = {"trt": "tensorrt", "cuda": "pycuda.driver", "graphs": "cuda.bindings.driver"}
        modules = {short: importlib.import_module(name) for short, name in names.items()}
        with compiled_apart():
            yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(FOLDER))
        _taken()
        sys.modules.update(before)


def _taken() -> dict[str, object]:
    """Take the packages, and our modules that hold on to them, out of what is imported."""
    engines = importlib.import_module("engines")
    for name in _BOUND:
        vars(engines).pop(name, None)
    names = [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]
    names += [name for name in (f"engines.{bound}" for bound in _BOUND) if name in sys.modules]
    return {name: sys.modules.pop(name) for name in names}

"""The TensorRT that a plan is for: TensorRT, or TensorRT for RTX, the same interface in another module."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from engines.plan.log import BuildProgress, LayerTimes, Log
from outfitgan.errors import EngineError
from outfitgan.progress import Progress

_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}

_Made = TypeVar("_Made")


class Api:
    """One TensorRT: its module, and what must be of classes of its own.

    TensorRT registers the first log that it is given, sends that one every message, and holds no reference to it:
    `api` keeps one for the life of the process.
    """

    def __init__(
        self,
        module: str,  # a key of _TITLES
    ) -> None:
        self.trt: Any = import_module(module)
        self.title = _TITLES[module]
        self.log: Any = _derived(Log, self.trt.ILogger)()  # a Log, and an ILogger of TensorRT's
        self._progress = _derived(BuildProgress, self.trt.IProgressMonitor)
        self._times = _derived(LayerTimes, self.trt.IProfiler)

    def progress(self, progress: Progress) -> Any:
        """Return a `BuildProgress` that reports to `progress`; TensorRT takes it as its monitor."""
        return self._progress(progress)

    def layer_times(self) -> Any:
        """Return a `LayerTimes`, which TensorRT takes as the profiler of a run."""
        return self._times()

    def started(self, kind: Callable[[Any], _Made]) -> _Made:
        """Return a new builder or runtime; raise EngineError where TensorRT does not start, as on too old a driver."""
        self.log.errors.clear()  # those of another engine are no reason for what follows
        try:
            made = kind(self.log)
        except TypeError as error:  # pybind11's way to say that it got a null pointer
            raise self._not_started() from error
        if self.log.errors:
            # The object wraps nothing: using it ends the process (tried), and so does freeing it. So it is never freed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
            raise self._not_started()
        return made

    def _not_started(self) -> EngineError:
        return EngineError(
            f"{self.title} {self.trt.__version__} does not start here ({self.log.reason()}); update the NVIDIA driver."
        )


@cache
def api(module: str) -> Api:
    """Return the one `Api` of this process for `tensorrt` or `tensorrt_rtx`."""
    return Api(module)


def _derived(kind: type[_Made], base: Any) -> type[_Made]:
    """Return `kind` as a subclass of TensorRT's `base` too."""
    return type(kind.__name__, (kind, base), {})

"""What TensorRT reports while it works: its log, the progress of a build, the time of each layer."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import tensorrt as trt

from outfitgan.errors import EngineError
from outfitgan.progress import Progress

_log = logging.getLogger(__name__)
_Started = TypeVar("_Started")

_SEVERITY = trt.ILogger.Severity
_LEVELS = {
    _SEVERITY.INTERNAL_ERROR: logging.ERROR,
    _SEVERITY.ERROR: logging.ERROR,
    _SEVERITY.WARNING: logging.WARNING,
    _SEVERITY.INFO: logging.DEBUG,  # a line a tactic
    _SEVERITY.VERBOSE: logging.DEBUG,
}


class Log(trt.ILogger):
    """TensorRT's log, passed on to Python's; its functions return None or False and leave the reason here."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Receive one message."""
        level = _LEVELS[severity]
        _log.log(level, "TensorRT: %s", msg)
        if level == logging.ERROR:
            self.errors.append(" ".join(msg.split()))

    def reason(self) -> str:
        """Return the first error since the last call or start, which the others follow from."""
        first = self.errors[0].rstrip(".") if self.errors else "TensorRT gave no reason"
        self.errors.clear()
        return first


@cache
def process_log() -> Log:
    """Return the log of this process, which lives as long as it does.

    TensorRT registers the first log that it is given, sends that one every message, and holds no reference to it.
    """
    return Log()


def started(kind: Callable[[Log], _Started]) -> _Started:
    """Return a new builder or runtime; raise EngineError where TensorRT does not start, as on too old a driver."""
    log = process_log()
    log.errors.clear()  # those of another engine are no reason for what follows
    try:
        started_object = kind(log)
    except TypeError as error:  # pybind11's way to say that it got a null pointer
        raise _not_started(log) from error
    if log.errors:
        # The object wraps nothing: using it ends the process (tried), and so does freeing it. So it is never freed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(started_object))
        raise _not_started(log)
    return started_object


def _not_started(log: Log) -> EngineError:
    return EngineError(f"TensorRT {trt.__version__} does not start here ({log.reason()}); update the NVIDIA driver.")


class BuildProgress(trt.IProgressMonitor):
    """Reports a build's phases as steps of the outermost one; Ctrl-C ends the build."""

    def __init__(
        self,
        progress: Progress,  # called for every phase and step
    ) -> None:
        trt.IProgressMonitor.__init__(self)
        self.interrupted = False
        self._progress = progress
        self._outermost, self._done, self._steps = "", 0, 1

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Record the start of a phase; TensorRT calls this from several threads."""
        if not parent_phase:
            self._outermost, self._done, self._steps = phase_name, 0, num_steps
        self._show(phase_name)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Record a step; return whether to go on."""
        if phase_name == self._outermost:
            self._done = step + 1
        return self._show(phase_name)

    def phase_finish(self, phase_name: str) -> None:
        """Record the end of a phase, which may come before its last step."""
        if phase_name == self._outermost:
            self._done = self._steps
        self._show(phase_name)

    def _show(self, phase: str) -> bool:
        # An exception cannot pass through TensorRT: what Python raises here on Ctrl-C is raised again after the build.
        try:
            self._progress(phase, self._done, self._steps)
        except KeyboardInterrupt:
            self.interrupted = True
        return not self.interrupted


class LayerTimes(trt.IProfiler):
    """The time of each layer of one run."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.milliseconds: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Receive one layer's time."""
        self.milliseconds[layer_name] = self.milliseconds.get(layer_name, 0.0) + ms

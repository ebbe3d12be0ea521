"""What TensorRT reports while it works: its log, the progress of a build, the time of each layer.

These classes lack their base, which is a class of the TensorRT that they work for: `engines.plan.api` adds it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from outfitgan.progress import Progress

_log = logging.getLogger(__name__)

_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,  # a line a tactic
    "VERBOSE": logging.DEBUG,
}

_HARMLESS = ("Converting conv activation scales to fp32", "Converting conv weight scales to fp32")
"""Warnings, two a convolution, of every INT8 graph: its scales are FP16, as all that is not rounded in it."""


class Log:
    """TensorRT's log, passed on to Python's; its functions return None or False and leave the reason here."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self._kept: list[str] | None = None

    def log(self, severity: Any, msg: str) -> None:
        """Receive one message."""
        level = logging.DEBUG if any(text in msg for text in _HARMLESS) else _LEVELS[severity.name]
        if self._kept is not None:
            self._kept.append(msg)
        _log.log(level, "TensorRT: %s", msg)
        if level == logging.ERROR:
            self.errors.append(" ".join(msg.split()))

    def reason(self) -> str:
        """Return the first error since the last call or start, which the others follow from."""
        first = self.errors[0].rstrip(".") if self.errors else "TensorRT gave no reason"
        self.errors.clear()
        return first

    @contextmanager
    def kept(self) -> Iterator[list[str]]:
        """Yield a list that receives every message while the block runs."""
        self._kept = []
        try:
            yield self._kept
        finally:
            self._kept = None


class BuildProgress:
    """Reports a build's phases as steps of the outermost one; Ctrl-C ends the build."""

    def __init__(
        self,
        progress: Progress,  # called for every phase and step
    ) -> None:
        super().__init__()
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


class LayerTimes:
    """The time of each layer of one run."""

    def __init__(self) -> None:
        super().__init__()
        self.milliseconds: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Receive one layer's time."""
        self.milliseconds[layer_name] = self.milliseconds.get(layer_name, 0.0) + ms

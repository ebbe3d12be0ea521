"""The loop that both trainings share: progress bar, log, checkpoints, Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from outfitgan.errors import RunError
from outfitgan.training.runs import Run


class StoppedError(RunError):
    """Ctrl-C was pressed; raised after the checkpoint was written."""


class Trainer(Protocol):
    """What the loop asks of a training."""

    stage: str

    def step(self, step: int) -> dict[str, float]:
        """Train on the batch of `step`; return its losses."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a resumed training needs."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""


def train_loop(
    run: Run, trainer: Trainer, steps: int, progress: Progress, on_step: Callable[[int], None] | None = None
) -> None:
    """Train from the run's checkpoint to `steps`; raise StoppedError after Ctrl-C, RunError on a loss that is NaN."""
    start = run.step(trainer.stage)
    run.rewind_log(trainer.stage, start)
    if start:
        trainer.restore(run.load(trainer.stage))
    task = progress.add_task(trainer.stage, total=steps, completed=start, losses="")
    with _stop_flag() as stopped:
        for step in range(start + 1, steps + 1):
            began = time.perf_counter()
            losses = trainer.step(step)
            _require_finite(trainer.stage, step, losses)
            run.log(trainer.stage, step, losses | {"seconds": time.perf_counter() - began})
            shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            progress.update(task, completed=step, losses=shown)
            stopping = bool(stopped)  # read once: a Ctrl-C from here on is for the next step
            if step % run.config.training.checkpoint_every == 0 or step == steps or stopping:
                run.save(trainer.stage, step, trainer.state())
            if on_step is not None:
                on_step(step)
            if stopping:
                raise StoppedError(
                    f"Stopped at {trainer.stage} step {step}; continue with --resume --run {run.folder}."
                )


def training_progress() -> Progress:
    """Return the progress bar of a training."""
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}", style="dim"),
    )


def _require_finite(stage: str, step: int, losses: dict[str, float]) -> None:
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        rate = "training.collocation_rate" if stage == "collocation" else "training.rate"
        raise RunError(
            f"{stage} step {step}: the loss {', '.join(bad)} is not finite; lower {rate} and resume from "
            "the last checkpoint."
        )


@contextmanager
def _stop_flag() -> Iterator[list[bool]]:
    """Yield a list that becomes non-empty on the first Ctrl-C; the second one interrupts at once."""
    flag: list[bool] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        if flag:
            raise KeyboardInterrupt
        flag.append(True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)

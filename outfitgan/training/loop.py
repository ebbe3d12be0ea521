"""The loop that all trainings share: progress bar, log, checkpoints, Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor

from outfitgan.errors import RunError
from outfitgan.training.log import TrainingLog
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
    run: Run,
    trainer: Trainer,
    steps: int,
    progress: Progress,
    accelerator: Accelerator,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train from the run's checkpoint to `steps`; raise StoppedError after Ctrl-C, RunError on a loss that is NaN.

    Of several processes the first alone writes, and all stop after the same step.
    """
    start = run.step(trainer.stage)
    if start:
        trainer.restore(run.load(trainer.stage))
    accelerator.wait_for_everyone()  # the first may write once all have read
    if accelerator.is_main_process:
        run.rewind_log(trainer.stage, start)
    task = progress.add_task(trainer.stage, total=steps, completed=start, losses="")
    with _stop_flag() as stopped, TrainingLog(run, trainer.stage, start) as log:
        for step in range(start + 1, steps + 1):
            began = time.perf_counter()
            losses = trainer.step(step)
            _require_finite(trainer.stage, step, losses)
            shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            progress.update(task, completed=step, losses=shown)
            stopping = _agreed(accelerator, bool(stopped))  # read once: a Ctrl-C from here on is for the next step
            if accelerator.is_main_process:
                log.write(step, losses | {"seconds": time.perf_counter() - began})
                if step % run.config.training.checkpoint_every == 0 or step == steps or stopping:
                    run.save(trainer.stage, step, trainer.state())
                if on_step is not None:
                    on_step(step)
            if stopping:
                raise StoppedError(
                    f"Stopped at {trainer.stage} step {step}; continue with --resume --run {run.folder}."
                )
    accelerator.wait_for_everyone()


def _agreed(accelerator: Accelerator, stopping: bool) -> bool:
    """Say whether any process was asked to stop."""
    if accelerator.num_processes == 1:
        return stopping
    flag = torch.tensor(float(stopping), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum").item())


def training_progress(accelerator: Accelerator) -> Progress:
    """Return the progress bar of a training, which the first process alone shows."""
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        # In a narrow terminal the losses are cut, not the counts.
        TextColumn("{task.fields[losses]}", style="dim", table_column=Column(no_wrap=True, ratio=1)),
        expand=True,
        disable=not accelerator.is_main_process,
    )


def _require_finite(stage: str, step: int, losses: dict[str, float]) -> None:
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        rate = {"outfit": "training.rate", "masks": "training.mask_rate"}.get(stage, "training.collocation_rate")
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

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
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column
from torch import Tensor

from outfitgan.errors import RunError
from outfitgan.training.runs import Run
from outfitgan.training.training_log import TrainingLog

SAME_COMMAND = "run the same command again to go on"
"""How a stopped training goes on, for all commands but `outfitgan train`."""

_RATES = {"outfit": "training.rate", "masks": "training.mask_rate"}
_CCM_RATE = "training.collocation_rate"  # of the CCM, and of the scorer


class StoppedError(RunError):
    """Ctrl-C was pressed; raised after the checkpoint was written."""


class Trainer(Protocol):
    """What the loop needs of a training."""

    stage: str

    def step(self, step: int) -> dict[str, float]:
        """Train on the batch of `step`; return its losses."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a resumed training needs."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state` returned."""


def train_loop(
    run: Run,
    trainer: Trainer,
    steps: int,
    progress: Bar,
    accelerator: Accelerator,
    on_step: Callable[[int], None] | None = None,
    goes_on: str = SAME_COMMAND,  # what a person does after Ctrl-C
) -> None:
    """Train from the run's checkpoint to `steps`.

    Of several processes the first alone writes, and all stop after the same step.

    Raises:
        StoppedError: after Ctrl-C, once the checkpoint is written.
        RunError: on a loss that is not finite, and on a checkpoint that would not be.

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
            bad = [name for name, value in losses.items() if not math.isfinite(value)]
            _require_none(bad, "the loss", run, trainer.stage, step)
            shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            progress.update(task, completed=step, losses=shown)
            stopping = _agreed(accelerator, bool(stopped))  # read once: a Ctrl-C from here on is for the next step
            if accelerator.is_main_process:
                log.write(step, losses | {"seconds": time.perf_counter() - began})
            if step % run.config.training.checkpoint_every == 0 or step == steps or stopping:
                _save(run, trainer, step, accelerator)
            if accelerator.is_main_process and on_step is not None:
                on_step(step)
            if stopping:
                raise StoppedError(f"Stopped at {trainer.stage} step {step}; {goes_on}.")
    accelerator.wait_for_everyone()


def _save(run: Run, trainer: Trainer, step: int, accelerator: Accelerator) -> None:
    """Write a checkpoint, unless the step's update broke it: its losses are from before that."""
    tensors = trainer.state()
    # In every process, as the losses: one that went on alone would wait for the others for ever.
    _require_none(_not_finite(tensors), "the checkpoint's", run, trainer.stage, step)
    if accelerator.is_main_process:
        run.save(trainer.stage, step, tensors)


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Return the name of the first tensor that holds NaN or infinity, if one does."""
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    finite = [tensors[name].isfinite().all().cpu() for name in names]
    return [name for name, whole in zip(names, finite, strict=True) if not whole][:1]


def _agreed(accelerator: Accelerator, stopping: bool) -> bool:
    """Return whether any process received a request to stop."""
    if accelerator.num_processes == 1:
        return stopping
    flag = torch.tensor(float(stopping), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum").item())


def training_progress(accelerator: Accelerator) -> Bar:
    """Return the progress bar of a training, which the first process alone shows."""
    return Bar(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        # In a narrow terminal the losses are cut, not the counts.
        TextColumn("{task.fields[losses]}", style="dim", table_column=Column(no_wrap=True, ratio=1)),
        expand=True,
        disable=not accelerator.is_main_process,
    )


def _require_none(bad: list[str], what: str, run: Run, stage: str, step: int) -> None:
    """Raise RunError if anything is not finite. A run keeps its config, so another rate is another run."""
    if bad:
        rate = _RATES.get(stage, _CCM_RATE)
        used: float = getattr(run.config.training, rate.rpartition(".")[2])
        raise RunError(
            f"{stage} step {step}: {what} {', '.join(bad)} is not finite; train another run with a lower {rate}, "
            f"as with --set {rate}={used / 4:g}."
        )


@contextmanager
def _stop_flag() -> Iterator[list[bool]]:
    """Yield a list that becomes non-empty on the first Ctrl-C; the second one interrupts at once."""
    flag: list[bool] = []

    def request_stop(signum: int, frame: FrameType | None) -> None:
        if flag:
            raise KeyboardInterrupt
        flag.append(True)

    before = signal.signal(signal.SIGINT, request_stop)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)

"""The log of a training: stats.jsonl, and TensorBoard's event files beside it."""

from __future__ import annotations

from typing import Any

from outfitgan.training.runs import Run


class TrainingLog:
    """One stage of a run; close it, or use it in a `with` block."""

    def __init__(
        self,
        run: Run,  # whose folder it writes to
        stage: str,  # of the training
        start: int,  # step that the training goes on from
    ) -> None:
        self._run, self._stage, self._start = run, stage, start
        self._writer: Any = None  # made with the first line: a finished run that is resumed stays as it is

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log one step."""
        self._run.log(self._stage, step, values)
        if not self._run.config.training.tensorboard:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            folder = self._run.folder / "tensorboard" / self._stage
            self._writer = SummaryWriter(str(folder), purge_step=self._start + 1)
        for name, value in values.items():
            self._writer.add_scalar(f"{self._stage}/{name}", value, step)

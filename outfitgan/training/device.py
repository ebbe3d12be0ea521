"""Where a training runs: device, precision and processes, by Hugging Face Accelerate."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from outfitgan.config import TrainingConfig
from outfitgan.errors import ConfigError


def accelerator_for(training: TrainingConfig) -> Accelerator:
    """Return this process's accelerator; `accelerate launch` decides how many processes there are.

    Raises:
        ConfigError: if the device cannot compute in training.mixed_precision.

    """
    # One process may train several runs after each other; the precision is the run's, not the process's.
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        return Accelerator(mixed_precision=training.mixed_precision)
    except ValueError as error:
        raise ConfigError(
            f"training.mixed_precision {training.mixed_precision} cannot be used here ({error}); use no."
        ) from error


def require_even_shares(batch: int, parts: int, processes: int, what: str) -> None:
    """Raise ConfigError unless a batch of `what` divides into equal parts over all processes."""
    if batch % (parts * processes):
        raise ConfigError(
            f"{what} {batch} does not divide into {processes} processes of {parts} parts; "
            f"make it a multiple of {parts * processes}."
        )

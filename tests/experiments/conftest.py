from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from outfitgan.config import load_preset, override
from outfitgan.experiments.arms import Settings

Make = Callable[..., Settings]


@pytest.fixture(scope="session")
def make() -> Make:
    """Settings of the smallest study there can be; keyword arguments are fields with __ for the dot."""

    def make(output: Path, seeds: int = 1, count: int = 3, **changes: Any) -> Settings:
        smallest = {
            "model.image_size": 32,
            "data.count": 6,
            "training.collocation_steps": 2,
            "training.steps": 2,
            "training.tensorboard": False,
        }
        fields = {name.replace("__", "."): value for name, value in changes.items()}
        config = override(load_preset("tiny"), smallest | fields)
        return Settings(output, config, tuple(range(seeds)), count, Console(file=io.StringIO(), width=200))

    return make

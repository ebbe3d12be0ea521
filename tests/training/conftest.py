from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_cases import CONFIG

from outfitgan.training.runs import Run
from outfitgan.training.train import train_run


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training in one go; tests read it, and copy it before they change anything."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "finished", CONFIG)
    train_run(run)
    return run


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(finished.folder, tmp_path / "run")))

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from training_cases import CONFIG

from outfitgan.training.runs import Run
from outfitgan.training.train import train_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training in one go; tests read it, and copy it before they change anything."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "finished", CONFIG)
    train_run(run)
    return run


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(finished.folder, tmp_path / "run")))

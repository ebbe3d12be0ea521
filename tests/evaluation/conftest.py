from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evaluation_cases import KINDS, TRAINED, Slots, small

from outfitgan.evaluation.judge import Judge
from outfitgan.evaluation.table import Metric
from outfitgan.training.runs import Run
from outfitgan.training.train import train_run


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Five held-out outfits."""
    return Judge(small(), Slots())


@pytest.fixture(scope="session")
def perfect(judge: Judge) -> list[Metric]:
    """Measures of the real items themselves."""
    return judge.measure(judge.outfits(slice(None)).images_of(KINDS))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training in one go, without a scorer; tests copy it before they change anything."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "trained", TRAINED)
    train_run(run)
    return run


@pytest.fixture
def own_run(trained_run: Run, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(trained_run.folder, tmp_path / "run")))

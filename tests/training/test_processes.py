"""The same training over two processes, which exchange gradients by gloo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_cases import small, stats

from outfitgan.config import Config, save_config
from outfitgan.training.runs import Run
from outfitgan.training.train import train_run

CONFIG = small(
    training__collocation_steps=3,
    training__steps=4,
    training__batch=4,
    training__checkpoint_every=2,
    data__count=8,
    data__augmentation="flip-and-shift",
)


def launch(folder: Path, options: list[str]) -> subprocess.Popen[str]:
    """`accelerate launch` of `outfitgan train` over two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = folder.parent / "train.py"
    script.write_text("from cli.main import main\n\nmain()\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(script), "train", "--run", str(folder), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def config_file(folder: Path, config: Config) -> str:
    save_config(config, folder / "config.toml")
    return str(folder / "config.toml")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("single") / "run", CONFIG)
    train_run(run)
    return run


def test_two_processes_train_the_generators_that_one_does(single: Run, tmp_path: Path) -> None:
    """With the same CCM, whose batch statistics are each process's own, the losses are those of the whole batch."""
    folder = tmp_path / "run"
    run = Run.create(folder, CONFIG)
    run.save("collocation", 3, single.load("collocation"))
    with launch(folder, ["--resume"]) as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert output.count("Trained:") == 1
    whole = [line for line in stats(single) if line["stage"] == "outfit"]
    shared = [line for line in stats(run) if line["stage"] == "outfit"]
    assert [line["step"] for line in shared] == [1, 2, 3, 4]  # the first process alone writes
    for line, other in zip(whole, shared, strict=True):
        names = line.keys() - {"seconds", "stage", "step"}
        assert {n: line[n] for n in names} == pytest.approx({n: other[n] for n in names}, rel=2e-3)
    one, two = (load_file(r.folder / "checkpoints" / "outfit-000004.safetensors") for r in (single, run))
    assert one.keys() == two.keys()
    apart = torch.cat([(one[key] - two[key]).abs().flatten() for key in one if key.startswith("generator.")])
    assert apart.mean() < 0.05 * CONFIG.training.rate


def test_two_processes_stop_after_the_same_step_and_resume(tmp_path: Path) -> None:
    config = small(training__collocation_steps=2, training__steps=40, training__batch=4, data__count=8)
    folder = tmp_path / "run"
    with launch(folder, ["--config", config_file(tmp_path, config)]) as process:
        deadline = time.monotonic() + 120
        log = folder / "stats.jsonl"
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_text(encoding="utf-8").count('"outfit", "step"') >= 3:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    run = Run.open(folder)
    step = run.step("outfit")
    assert 3 <= step < 40, errors
    assert stats(run)[-1]["step"] == step
    assert f"Stopped at outfit step {step}" in errors
    assert run.load("outfit")["averaged.n_averaged"].item() == step
    with launch(folder, ["--resume"]) as process:
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert [line["step"] for line in stats(run) if line["stage"] == "outfit"] == [*range(1, 41)]
    assert run.load("outfit")["averaged.n_averaged"].item() == 40

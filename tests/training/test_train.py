"""Whole small trainings: what they leave, and that stopping, resuming and bad numbers do no harm."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import CONFIG, STAGES, TARGETS, batches_of, small, stats

from outfitgan.config import load_config, override, parse_fields, save_config
from outfitgan.errors import RunError
from outfitgan.files import sha256_of
from outfitgan.training import scorer, train
from outfitgan.training.device import accelerator_for
from outfitgan.training.loop import StoppedError, Trainer
from outfitgan.training.outfit_trainer import OutfitTrainer
from outfitgan.training.runs import Run
from outfitgan.training.train import train_run
from outfitgan.training.trained_networks import load_classifier, load_generator, load_mask_generators


def test_a_run_writes_its_config_log_checkpoints_and_samples(finished: Run) -> None:
    assert load_config(finished.folder / "config.toml") == CONFIG
    lines = stats(finished)
    assert [(line["stage"], line["step"]) for line in lines] == [
        (stage, step) for stage, steps in STAGES.items() for step in range(1, steps + 1)
    ]
    names = {"collocation": {"loss", "accuracy"}, "outfit": {"d", "adversarial", "l1", "collocation"}}
    for line in lines:
        values = {key: value for key, value in line.items() if key not in ("stage", "step")}
        assert set(values) == names[line["stage"]] | {"seconds"}
        assert all(math.isfinite(value) and value >= 0 for value in values.values())
    index = json.loads((finished.folder / "checkpoints" / "checkpoints.json").read_text(encoding="utf-8"))
    files = {path.name for path in (finished.folder / "checkpoints").iterdir()}
    assert files == {"checkpoints.json"} | {entry["file"] for entry in index.values()}  # older ones are gone
    for stage, steps in STAGES.items():
        assert index[stage]["step"] == finished.step(stage) == steps
        assert index[stage]["sha256"] == sha256_of(finished.folder / "checkpoints" / index[stage]["file"])
    samples = sorted((finished.folder / "samples").iterdir())
    assert [path.name for path in samples] == ["000010.png", "000020.png", "000024.png"]
    for path in samples:
        with Image.open(path) as image:
            assert image.size == (32 * 10, 32 * 4)  # source, then mask, generated and real of three; four outfits


def test_a_run_leaves_the_averaged_networks(finished: Run) -> None:
    generator = load_generator(finished)
    assert generator.targets == TARGETS
    assert not generator.training
    tensors = load_file(finished.folder / "checkpoints" / "outfit-000024.safetensors")
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, tensors[f"averaged.module.{name}"])
    assert any(not torch.equal(t, tensors[f"generator.{name}"]) for name, t in generator.state_dict().items())
    assert not load_classifier(finished).training
    assert load_mask_generators(finished) == {}


def test_the_log_says_what_the_first_steps_lost(finished: Run) -> None:
    """Step 1 from scratch, with the frozen CCM of the run, loses what the log has."""
    config = finished.config
    accelerator = accelerator_for(config.training)
    trainer = OutfitTrainer(config, batches_of(config), load_classifier(finished), accelerator)
    first = next(line for line in stats(finished) if line["stage"] == "outfit")
    for name, value in trainer.step(1).items():
        assert value == pytest.approx(first[name], abs=1e-6)


def test_tensorboard_has_what_the_log_has(finished: Run) -> None:
    for stage, steps in STAGES.items():
        events = EventAccumulator(str(finished.folder / "tensorboard" / stage))
        events.Reload()
        logged = [line for line in stats(finished) if line["stage"] == stage]
        names = {key for key in logged[0] if key not in ("stage", "step")}
        assert set(events.Tags()["scalars"]) == {f"{stage}/{name}" for name in names}
        for name in names:
            scalars = events.Scalars(f"{stage}/{name}")
            assert [scalar.step for scalar in scalars] == list(range(1, steps + 1))
            expected = [line[name] for line in logged]
            assert [scalar.value for scalar in scalars] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_samples_come_once_an_epoch_and_tensorboard_can_be_left_out(tmp_path: Path) -> None:
    config = small(
        training__collocation_steps=1, training__steps=7, training__sample_every=0, training__tensorboard=False
    )
    run = Run.create(tmp_path / "run", config)  # 10 outfits in batches of 2: an epoch is 5 steps
    train_run(run)
    assert sorted(path.name for path in (run.folder / "samples").iterdir()) == ["000005.png", "000007.png"]
    assert not (run.folder / "tensorboard").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_and_resumed_is_bit_for_bit_uninterrupted(finished: Run, tmp_path: Path, stage: str) -> None:
    save_config(CONFIG, tmp_path / "config.toml")
    folder = tmp_path / "run"
    stopped = _interrupt(["--config", str(tmp_path / "config.toml"), "--run", str(folder)], folder, stage)
    error = re.fullmatch(rf"error: Stopped at {stage} step (\d+); continue with --resume --run .*\n", stopped.stderr)
    assert error, stopped.stderr
    assert stopped.returncode == 2
    run = Run.open(folder)
    step = int(error[1])
    assert 3 <= step < STAGES[stage]
    assert run.step(stage) == step
    assert stats(run)[-1]["step"] == step
    train_run(run)

    for name, steps in STAGES.items():
        file = Path("checkpoints") / f"{name}-{steps:06d}.safetensors"
        resumed, straight = load_file(folder / file), load_file(finished.folder / file)
        assert resumed.keys() == straight.keys()
        assert [key for key in straight if not torch.equal(resumed[key], straight[key])] == []
        assert any(".exp_avg_sq" in key for key in straight)  # the optimiser's memory is part of it
    for sample in (finished.folder / "samples").iterdir():
        assert (folder / "samples" / sample.name).read_bytes() == sample.read_bytes()
    drop = {"seconds": 0.0}
    assert [line | drop for line in stats(run)] == [line | drop for line in stats(finished)]


def _interrupt(options: list[str], folder: Path, stage: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own and press Ctrl-C once `stage` has logged three steps."""
    command = [sys.executable, "-c", "from cli.main import main; main()", "train", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        log, deadline = folder / "stats.jsonl", time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_text(encoding="utf-8").count(f'"{stage}", "step"') >= 3:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.005)
        try:
            output, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def test_a_loss_that_is_not_finite_ends_the_training_by_name(tmp_path: Path) -> None:
    """The weight overflows FP32, so the first step's gradients are infinite and the second step's pictures NaN."""
    run = Run.create(tmp_path / "run", small(training__collocation_steps=2, training__steps=9, losses__l1=1e300))
    with pytest.raises(
        RunError, match=r"outfit step 2: the loss .*l1.* is not finite; train another .* training\.rate"
    ):
        train_run(run)
    assert (run.step("collocation"), run.step("outfit")) == (2, 0)
    assert [line["step"] for line in stats(run)] == [1, 2, 1]
    assert all(math.isfinite(v) for line in stats(run) for v in line.values() if isinstance(v, float))


def test_a_ccm_whose_loss_is_not_finite_names_its_own_rate(finished: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    tensors = finished.load("collocation")
    tensors["collocation.head.weight"] = tensors["collocation.head.weight"] * math.nan
    run.save("collocation", 5, tensors)
    with pytest.raises(RunError, match=r"collocation step 6: the loss loss is.* training\.collocation_rate") as error:
        train_run(run)
    field = re.fullmatch(r".*, as with --set (\S+)\.", str(error.value))
    assert field
    lower = override(CONFIG, parse_fields([field[1]])).training.collocation_rate
    assert lower == CONFIG.training.collocation_rate / 4


@pytest.mark.parametrize("changes", [{"training__steps": 1}, {"training__steps": 9, "training__checkpoint_every": 1}])
def test_weights_that_an_update_broke_are_not_kept(tmp_path: Path, changes: dict[str, int]) -> None:
    """The losses of the first step are finite, what its update leaves is not."""
    run = Run.create(tmp_path / "run", small(training__collocation_steps=1, losses__l1=1e300, **changes))
    said = r"outfit step 1: the checkpoint's generator\.\S+ is not finite; train another .* lower training\.rate"
    with pytest.raises(RunError, match=said):
        train_run(run)
    assert run.step("outfit") == 0
    assert [path.name for path in (run.folder / "checkpoints").glob("outfit*")] == []
    assert not (run.folder / "samples").exists()


def press_ctrl_c(trainer: type[Trainer], at: int) -> type[Trainer]:
    """A trainer during whose step `at` Ctrl-C is pressed, the first time that it comes to it."""
    pressed: list[int] = []

    class Pressed(trainer):  # type: ignore[misc, valid-type]
        def step(self, step: int) -> dict[str, float]:
            if step == at and not pressed:
                pressed.append(step)
                signal.raise_signal(signal.SIGINT)
            losses: dict[str, float] = super().step(step)
            return losses

    return Pressed


@pytest.mark.parametrize(
    ("stage", "module", "name", "command"),
    [
        ("masks", train, "MaskTrainer", train.train_masks),
        ("scorer", scorer, "CollocationTrainer", scorer.load_scorer),
        ("collocation", train, "CollocationTrainer", train.train_run),  # as an experiment trains its arms
        ("outfit", train, "OutfitTrainer", train.train_run),
    ],
)
def test_a_command_without_resume_is_given_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    module: ModuleType,
    name: str,
    command: Callable[[Run], object],
) -> None:
    config = small(training__collocation_steps=4, training__steps=4, training__mask_steps=4)
    run = Run.create(tmp_path / "run", config)
    monkeypatch.setattr(module, name, press_ctrl_c(getattr(module, name), 2))
    with pytest.raises(StoppedError, match=f"^Stopped at {stage} step 2; run the same command again to go on\\.$"):
        command(run)
    assert run.step(stage) == 2
    command(run)
    assert [line["step"] for line in stats(run) if line["stage"] == stage] == [1, 2, 3, 4]

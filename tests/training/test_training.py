"""Losses, batches, whole small trainings, and what becomes of them when they are stopped, altered or go wrong."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from outfitgan.config import Config, load_config, load_preset, override, save_config
from outfitgan.data.outfits import OutfitSource, open_outfits
from outfitgan.errors import ConfigError, RunError
from outfitgan.files import sha256_of
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.vgg import Vgg16
from outfitgan.training.batches import Batches, as_batch
from outfitgan.training.losses import compatibility, lsgan, perceptual
from outfitgan.training.outfit import OutfitTrainer
from outfitgan.training.runs import Run, unpack
from outfitgan.training.train import load_classifier, load_generators, train_run

STAGES = {"collocation": 24, "outfit": 24}
TARGETS = ("bag", "lower", "shoes")


def small(**changes: Any) -> Config:
    """The tiny preset at 32 pixels; keyword arguments are fields with __ for the dot."""
    fields: dict[str, Any] = {"model.image_size": 32, "data.count": 10}
    return override(load_preset("tiny"), fields | {name.replace("__", "."): value for name, value in changes.items()})


CONFIG = small(
    training__collocation_steps=STAGES["collocation"],
    training__steps=STAGES["outfit"],
    training__checkpoint_every=10,
    training__sample_every=10,
)


def source_of(config: Config, split: str = "train") -> OutfitSource:
    return open_outfits(config.data, config.model.image_size, split, config.training.seed)


def outfit_trainer(config: Config) -> OutfitTrainer:
    torch.manual_seed(1)
    batches = Batches(source_of(config), config.model.image_size, config.training.seed)
    return OutfitTrainer(config, batches, CollocationClassifier(config.model))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training in one go; tests read it, and copy it before they change anything."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "finished", CONFIG)
    train_run(run)
    return run


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    return Run.open(Path(shutil.copytree(finished.folder, tmp_path / "run")))


def stats(run: Run) -> list[dict[str, Any]]:
    lines = (run.folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# Losses


@pytest.mark.parametrize("goal", [0.0, 1.0])
def test_lsgan_is_the_mean_over_scales_of_the_mean_square(goal: float) -> None:
    draw = np.random.default_rng(0)
    maps = [draw.normal(size=(2, 1, side, side)) for side in (8, 4)]
    expected = np.mean([np.mean((scores - goal) ** 2) for scores in maps])
    assert lsgan([torch.from_numpy(scores) for scores in maps], goal).item() == pytest.approx(expected, rel=1e-12)
    assert lsgan([torch.full((1, 1, 2, 2), goal)], goal).item() == 0


@settings(max_examples=50, deadline=None)
@given(logits=st.lists(st.floats(-500, 500), min_size=1, max_size=8), label=st.sampled_from([0.0, 1.0]))
def test_compatibility_is_the_cross_entropy(logits: list[float], label: float) -> None:
    x = np.array(logits)
    expected = np.mean(np.logaddexp(0, -x if label else x))  # log(1 + exp(-x)), which does not overflow
    found = compatibility(torch.tensor(logits, dtype=torch.float64), label).item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_perceptual_is_the_weighted_l1_of_the_five_taps() -> None:
    torch.manual_seed(0)
    network = Vgg16()
    fake, real = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    taps = zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0), network(fake), network(real), strict=True)
    expected = sum(weight * np.abs(a.double().numpy() - b.double().numpy()).mean() for weight, a, b in taps)
    assert perceptual(network, fake, real).item() == pytest.approx(expected, rel=1e-5)
    assert perceptual(network, real, real).item() == 0
    fake.requires_grad_()
    perceptual(network, fake, real).backward()  # type: ignore[no-untyped-call]
    assert fake.grad is not None
    assert fake.grad.any()


# Batches


def test_a_batch_holds_the_outfits_in_collocation_order() -> None:
    source = source_of(CONFIG)
    outfits = [source[index] for index in (3, 0, 3)]
    batch = as_batch(outfits)
    assert (batch.images.shape, batch.masks.shape) == ((3, 4, 3, 32, 32), (3, 4, 1, 32, 32))
    for row, outfit in enumerate(outfits):
        for column, kind in enumerate(COLLOCATION_ORDER):
            pixels = outfit.items[kind].image.astype(np.float64) / 127.5 - 1
            np.testing.assert_allclose(batch.images[row, column].numpy(), pixels.transpose(2, 0, 1), atol=1e-6)
            assert np.array_equal(batch.masks[row, column, 0].numpy(), outfit.items[kind].mask // 255)
            assert torch.equal(batch.image(kind)[row], batch.images[row, column])
            assert torch.equal(batch.mask(kind)[row], batch.masks[row, column])


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    used = Batches(source_of(CONFIG), 32, seed=5)
    seen = [(used.real(step, 4).images, used.incompatible(step, 4).images) for step in range(1, 9)]
    for step in (8, 3, 1):
        fresh = Batches(source_of(CONFIG), 32, seed=5)  # nothing decoded yet; `used` keeps what it decoded
        for batches in (fresh, used):
            assert torch.equal(batches.incompatible(step, 4).images, seen[step - 1][1])
            assert torch.equal(batches.real(step, 4).images, seen[step - 1][0])
    assert len({images.numpy().tobytes() for images, _ in seen}) == 8
    assert not torch.equal(Batches(source_of(CONFIG), 32, seed=6).real(1, 4).images, seen[0][0])


def test_negatives_are_the_same_outfits_with_an_item_replaced() -> None:
    batches = Batches(source_of(CONFIG), 32, seed=0)
    for step in range(1, 7):
        same = (batches.real(step, 4).images == batches.incompatible(step, 4).images).all(dim=(2, 3, 4))  # (B, 4)
        assert same.any(dim=1).all()
        assert not same.all(dim=1).any()


# A whole training


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


def test_a_run_leaves_networks_that_load(finished: Run) -> None:
    generators = load_generators(finished)
    assert tuple(generators) == tuple(ItemKind(kind) for kind in TARGETS)
    tensors = load_file(finished.folder / "checkpoints" / "outfit-000024.safetensors")
    for kind, network in generators.items():
        assert not network.training
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, tensors[f"generator.{kind}.{name}"])
    assert not load_classifier(finished).training


def test_the_log_says_what_the_first_steps_lost(finished: Run) -> None:
    """Step 1 from scratch, with the frozen CCM of the run, loses what the log has."""
    config = finished.config
    trainer = OutfitTrainer(config, Batches(source_of(config), 32, 0), load_classifier(finished))
    first = next(line for line in stats(finished) if line["stage"] == "outfit")
    for name, value in trainer.step(1).items():
        assert value == pytest.approx(first[name], abs=1e-6)


def test_a_finished_run_stays_as_it_is_when_resumed(copied: Run) -> None:
    before = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
    train_run(copied)
    assert {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()} == before


def test_the_log_is_rewound_to_the_checkpoint(copied: Run) -> None:
    path = copied.folder / "stats.jsonl"
    whole = path.read_bytes()
    copied.rewind_log("outfit", 24)
    assert path.read_bytes() == whole
    path.write_bytes(whole + b'{"stage": "outfit", "st')  # half a line, as a power cut leaves it
    copied.rewind_log("outfit", 20)
    assert [(line["stage"], line["step"]) for line in stats(copied)] == [
        *(("collocation", step) for step in range(1, 25)),
        *(("outfit", step) for step in range(1, 21)),
    ]
    path.unlink()
    copied.rewind_log("outfit", 20)
    assert not path.exists()


def test_resuming_drops_what_was_logged_after_the_checkpoint(copied: Run) -> None:
    before = (copied.folder / "stats.jsonl").read_bytes()
    copied.log("outfit", 25, {"l1": 1.0})
    train_run(copied)
    assert (copied.folder / "stats.jsonl").read_bytes() == before


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
    command = [sys.executable, "-c", "from outfitgan.cli import main; main()", "train", *options]
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


# What is trained, and what is not


def test_the_ccm_is_frozen_yet_teaches_every_generator() -> None:
    config = small(losses__adversarial=0, losses__l1=0, losses__collocation=1)
    trainer = outfit_trainer(config)
    ccm = snapshot(trainer.classifier)
    batch = trainer.batches.real(1, 2)
    for step in range(1, 4):
        trainer.backward_g(batch, trainer.generate(batch))
        assert unchanged(trainer.classifier, ccm), step  # its running statistics too
    assert all(parameter.grad is None for parameter in trainer.classifier.parameters())
    for kind in TARGETS:
        generator = trainer.generators[kind]
        strengths = [p.grad.abs().max().item() for p in generator.parameters() if p.grad is not None]
        assert len(strengths) == len(list(generator.parameters()))
        assert max(strengths) > 1e-7


@pytest.mark.parametrize("term", ["adversarial", "l1", "collocation"])
def test_a_weight_of_zero_silences_its_term_and_no_other(term: str) -> None:
    silent = {"losses__adversarial": 0, "losses__l1": 0, "losses__collocation": 0}
    for weights, moves in ((silent, False), (silent | {f"losses__{term}": 1}, True)):
        trainer = outfit_trainer(small(**weights))
        batch = trainer.batches.real(1, 2)
        trainer.backward_g(batch, trainer.generate(batch))
        moved = any(p.grad is not None and p.grad.any() for p in trainer.generators.parameters())
        assert moved is moves


def test_each_half_step_trains_its_own_side() -> None:
    trainer = outfit_trainer(CONFIG)
    batch = trainer.batches.real(1, 2)
    generators, discriminators = snapshot(trainer.generators), snapshot(trainer.discriminators)
    fakes = trainer.generate(batch)
    trainer.backward_d(batch, fakes)
    assert unchanged(trainer.generators, generators)
    assert all(parameter.grad is None for parameter in trainer.generators.parameters())
    assert not unchanged(trainer.discriminators, discriminators)

    discriminators = snapshot(trainer.discriminators)
    gradients = [None if p.grad is None else p.grad.clone() for p in trainer.discriminators.parameters()]
    trainer.backward_g(batch, fakes)
    assert unchanged(trainer.discriminators, discriminators)
    for parameter, gradient in zip(trainer.discriminators.parameters(), gradients, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is not None
        assert gradient is not None
        assert torch.equal(parameter.grad, gradient)
    assert not unchanged(trainer.generators, generators)


def test_the_losses_of_a_step_are_those_of_the_definition() -> None:
    trainer = outfit_trainer(CONFIG)
    batch = trainer.batches.real(1, 2)
    with torch.no_grad():
        fakes = trainer.generate(batch)
        scores = {kind: trainer.discriminators[kind] for kind in TARGETS}
        real = [scores[kind](batch.image(ItemKind(kind)), batch.mask(ItemKind(kind))) for kind in TARGETS]
        made = [scores[kind](fakes[ItemKind(kind)], batch.mask(ItemKind(kind))) for kind in TARGETS]
        outfit = torch.stack([batch.image(ItemKind.UPPER), *(fakes[ItemKind(kind)] for kind in TARGETS)], dim=1)
        order = [0, *(1 + TARGETS.index(kind.value) for kind in COLLOCATION_ORDER[1:])]
        logits = trainer.classifier(outfit[:, order]).double().numpy()

    def square(maps: list[list[Tensor]], goal: float) -> float:
        return float(np.mean([[np.mean((m.double().numpy() - goal) ** 2) for m in scales] for scales in maps]))

    found = trainer.backward_d(batch, fakes)
    assert found["d"] == pytest.approx((square(real, 1) + square(made, 0)) / 2, rel=1e-5)
    with torch.no_grad():
        made = [scores[kind](fakes[ItemKind(kind)], batch.mask(ItemKind(kind))) for kind in TARGETS]
    found = trainer.backward_g(batch, trainer.generate(batch))
    distances = [(fakes[kind] - batch.image(kind)).double().abs().mean().item() for kind in fakes]
    assert found["l1"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert found["adversarial"] == pytest.approx(square(made, 1), rel=1e-5)
    assert found["collocation"] == pytest.approx(np.mean(np.logaddexp(0, -logits)), rel=1e-5)


def test_one_batch_can_be_learned_by_heart() -> None:
    config = small(data__count=1, training__rate=2e-3)
    trainer = outfit_trainer(config)
    losses = [trainer.step(step)["l1"] for step in range(1, 31)]
    assert min(losses[-5:]) < 0.5 * losses[0]
    assert np.mean(losses[-8:]) < np.mean(losses[8:16]) < np.mean(losses[:5])


# What goes wrong


def test_a_missing_or_altered_checkpoint_is_refused(copied: Run) -> None:
    path = copied.folder / "checkpoints" / "outfit-000024.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit
    with pytest.raises(RunError, match=r"outfit-000024.* was altered"):
        load_generators(copied)
    with pytest.raises(RunError, match="was altered"):
        train_run(copied)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="was altered"):
        load_generators(copied)
    path.unlink()
    with pytest.raises(RunError, match=r"outfit-000024.* is missing"):
        load_generators(copied)
    load_classifier(copied)  # the other stage is whole


def test_a_checkpoint_that_is_no_safetensors_is_refused_even_with_its_hash(copied: Run) -> None:
    path = copied.folder / "checkpoints" / "outfit-000024.safetensors"
    index = copied.folder / "checkpoints" / "checkpoints.json"
    before = sha256_of(path)
    path.write_bytes(b"not safetensors at all")
    index.write_text(index.read_text(encoding="utf-8").replace(before, sha256_of(path)), encoding="utf-8")
    with pytest.raises(RunError, match="is not safetensors"):
        load_generators(copied)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"outfit": {}}', '{"outfit": 3}', "[1]"])
def test_an_index_of_checkpoints_that_is_none_is_refused(copied: Run, text: str) -> None:
    (copied.folder / "checkpoints" / "checkpoints.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"checkpoints\.json is not readable.*restore it"):
        load_generators(copied)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "/etc/precious.safetensors"),
        ("file", "../precious.safetensors"),
        ("file", "config.toml"),
        ("file", ["a.safetensors"]),
        ("step", -1),
        ("step", "24"),
        ("sha256", "abc"),
    ],
)
def test_an_index_that_names_what_save_never_wrote_is_refused(copied: Run, field: str, value: object) -> None:
    path = copied.folder / "checkpoints" / "checkpoints.json"
    precious = copied.folder / "precious.safetensors"
    precious.write_bytes(b"years of work")
    index = json.loads(path.read_text(encoding="utf-8"))
    index["outfit"][field] = value
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(RunError, match=r"checkpoints\.json is not readable.*restore it"):
        copied.save("outfit", 25, {"a": torch.zeros(1)})
    assert precious.exists()


def test_a_checkpoint_of_other_shapes_is_refused(finished: Run) -> None:
    wider = replace(finished.config.model, collocation=replace(finished.config.model.collocation, width=12))
    with pytest.raises(RunError, match="does not fit the run's config") as caught:
        unpack("collocation", CollocationClassifier(wider), finished.load("collocation"))
    assert "\n" not in str(caught.value)


def test_a_run_without_a_checkpoint_says_how_to_get_one(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    for load in (load_generators, load_classifier):
        with pytest.raises(RunError, match=r"no (outfit|collocation) checkpoint yet; finish it with"):
            load(run)
    assert run.step("outfit") == 0


def test_a_folder_is_one_run(copied: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
        Run.create(copied.folder, CONFIG)
    (copied.folder / "config.toml").unlink()
    for leftover in ("stats.jsonl", "checkpoints/checkpoints.json"):
        other = tmp_path / "other"
        (other / leftover).parent.mkdir(parents=True)
        shutil.copy(copied.folder / leftover, other / leftover)
        with pytest.raises(RunError, match=r"already holds a run; continue it with --resume"):
            Run.create(other, CONFIG)
        shutil.rmtree(other)
    with pytest.raises(RunError, match="holds no run"):
        Run.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write the run"):
        Run.create(tmp_path / "file", CONFIG)


def test_a_run_that_took_no_step_may_be_started_anew(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", CONFIG)
    again = Run.create(tmp_path / "run", small(training__seed=3))
    assert Run.open(tmp_path / "run").config == again.config


def test_a_loss_that_is_not_finite_ends_the_training_by_name(tmp_path: Path) -> None:
    """The weight overflows FP32, so the first step's gradients are infinite and the second step's pictures NaN."""
    run = Run.create(tmp_path / "run", small(training__collocation_steps=2, training__steps=9, losses__l1=1e300))
    with pytest.raises(RunError, match=r"outfit step 2: the loss .*l1.* is not finite; lower training\.rate"):
        train_run(run)
    assert (run.step("collocation"), run.step("outfit")) == (2, 0)
    assert [line["step"] for line in stats(run)] == [1, 2, 1]
    assert all(math.isfinite(v) for line in stats(run) for v in line.values() if isinstance(v, float))


def test_a_ccm_whose_loss_is_not_finite_names_its_own_rate(finished: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    tensors = finished.load("collocation")
    tensors["collocation.head.weight"] = tensors["collocation.head.weight"] * math.nan
    run.save("collocation", 5, tensors)
    with pytest.raises(RunError, match=r"collocation step 6: the loss loss is.* lower training\.collocation_rate"):
        train_run(run)


def test_the_smallest_discriminator_grid_that_is_allowed_works() -> None:
    config = small(model__discriminator__layers=2, model__discriminator__scales=4)
    trainer = outfit_trainer(config)
    assert all(math.isfinite(loss) for loss in trainer.step(1).values())
    with pytest.raises(ConfigError, match="too small for the 6 halvings"):
        small(model__discriminator__layers=2, model__discriminator__scales=5)

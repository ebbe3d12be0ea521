"""A run on disk: what becomes of one that is altered, half-written or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_cases import CONFIG, small, stats

from outfitgan.errors import RunError
from outfitgan.files import sha256_of
from outfitgan.networks.collocation import build_classifier
from outfitgan.training.runs import Run, unpack
from outfitgan.training.train import train_run
from outfitgan.training.trained_networks import load_classifier, load_generator


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


def test_a_missing_or_altered_checkpoint_is_refused(copied: Run) -> None:
    path = copied.folder / "checkpoints" / "outfit-000024.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit
    with pytest.raises(RunError, match=r"outfit-000024.* was altered"):
        load_generator(copied)
    with pytest.raises(RunError, match="was altered"):
        train_run(copied)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="was altered"):
        load_generator(copied)
    path.unlink()
    with pytest.raises(RunError, match=r"outfit-000024.* is missing"):
        load_generator(copied)
    load_classifier(copied)  # the other stage is whole


def test_a_checkpoint_that_is_no_safetensors_is_refused_even_with_its_hash(copied: Run) -> None:
    path = copied.folder / "checkpoints" / "outfit-000024.safetensors"
    index = copied.folder / "checkpoints" / "checkpoints.json"
    before = sha256_of(path)
    path.write_bytes(b"not safetensors at all")
    index.write_text(index.read_text(encoding="utf-8").replace(before, sha256_of(path)), encoding="utf-8")
    with pytest.raises(RunError, match="is not safetensors"):
        load_generator(copied)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"outfit": {}}', '{"outfit": 3}', "[1]"])
def test_an_index_of_checkpoints_that_is_none_is_refused(copied: Run, text: str) -> None:
    (copied.folder / "checkpoints" / "checkpoints.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"checkpoints\.json is not readable.*restore it"):
        load_generator(copied)


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
        unpack("collocation", build_classifier(wider), finished.load("collocation"))
    assert "\n" not in str(caught.value)


def test_a_run_without_a_checkpoint_says_how_to_get_one(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    for load in (load_generator, load_classifier):
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

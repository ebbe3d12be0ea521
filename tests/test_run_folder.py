"""A run's folder as it is read without torch: its config, and which weights its exports are of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outfitgan.config import load_preset, save_config
from outfitgan.errors import RunError
from outfitgan.run_folder import RunFolder

ENTRY = {"file": "outfit-000024.safetensors", "step": 24, "sha256": "ab" * 32}


def folder_of(path: Path, index: object) -> RunFolder:
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    text = index if isinstance(index, str) else json.dumps(index)
    (path / "checkpoints" / "checkpoints.json").write_text(text, encoding="utf-8")
    return RunFolder(path)


def test_weights_change_with_every_stage_that_is_exported(tmp_path: Path) -> None:
    found = {folder_of(tmp_path, {"outfit": ENTRY}).weights()}
    for stage in ("collocation", "masks", "outfit"):
        for field, value in (("sha256", "cd" * 32), ("step", 25), ("file", "other.safetensors")):
            index = {"outfit": ENTRY, stage: ENTRY | {field: value}}
            found.add(folder_of(tmp_path, index).weights())
    assert len(found) == 10
    assert all(len(digest) == 64 for digest in found)


def test_a_scorer_changes_no_weights_that_are_exported(tmp_path: Path) -> None:
    index = {"collocation": ENTRY, "outfit": ENTRY}
    before = folder_of(tmp_path, index).weights()
    assert folder_of(tmp_path, index | {"scorer": ENTRY}).weights() == before
    assert folder_of(tmp_path, {"scorer": ENTRY | {"step": 3}} | index).weights() == before


def test_the_same_checkpoints_are_the_same_weights_however_they_are_written(tmp_path: Path) -> None:
    index = {"collocation": ENTRY, "outfit": ENTRY}
    backwards = {stage: dict(reversed(entry.items())) for stage, entry in reversed(index.items())}
    texts = [json.dumps(found, indent=gap) for found in (index, backwards) for gap in (None, 2)]
    digests = {folder_of(tmp_path, text).weights() for text in texts}
    assert len(digests) == 1


def test_a_run_without_checkpoints_has_no_weights(tmp_path: Path) -> None:
    assert RunFolder(tmp_path / "nowhere").weights() == ""
    assert folder_of(tmp_path, {}).weights() == ""
    assert folder_of(tmp_path, {"scorer": ENTRY}).weights() == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"outfit"', "\0"])
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    message = r"checkpoints\.json is not readable .*; restore it or train the run again\."
    with pytest.raises(RunError, match=message) as caught:
        folder_of(tmp_path, text).weights()
    assert "\n" not in str(caught.value)


def test_a_folder_has_its_config_or_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run \(no config\.toml\); make one with 'outfitgan train --run"):
        RunFolder(tmp_path).config()
    save_config(load_preset("tiny"), tmp_path / "config.toml")
    assert RunFolder(tmp_path).config() == load_preset("tiny")

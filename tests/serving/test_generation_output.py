"""Nothing that is not ours is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from outfitgan.config import load_preset, save_config
from outfitgan.errors import InputError, RunError
from serving.demo import run_demo
from serving.generation import check_output


def test_the_demo_replaces_only_what_a_demo_made(tmp_path: Path) -> None:
    save_config(load_preset("tiny"), tmp_path / "mine" / "config.toml")
    before = (tmp_path / "mine" / "config.toml").read_bytes()
    with pytest.raises(RunError, match="something else than a demo's run"):
        run_demo(tmp_path / "mine", "tiny", print)
    assert (tmp_path / "mine" / "config.toml").read_bytes() == before


def test_an_outfit_replaces_only_an_outfit(tmp_path: Path) -> None:
    check_output(tmp_path / "new")
    (tmp_path / "old").mkdir()
    check_output(tmp_path / "old")
    (tmp_path / "old" / "result.json").touch()
    (tmp_path / "old" / "bag.png").touch()
    (tmp_path / "old" / "bag_mask.png").touch()
    check_output(tmp_path / "old")
    (tmp_path / "old" / "thesis.docx").touch()
    with pytest.raises(InputError, match="something else than an outfit"):
        check_output(tmp_path / "old")
    with pytest.raises(InputError, match="something else than an outfit"):
        check_output(tmp_path / "old" / "thesis.docx")

"""Kernels as files, of a kernel written by hand: compiling is tested in test_correlate_aot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.kernel_verbs import app
from outfitgan.config import load_preset, override, save_config
from outfitgan.ops.correlate.compiled_kernel import CompiledKernel, Grid
from outfitgan.ops.correlate.ptx_files import file_name, resource_table, write_kernels
from outfitgan.ops.correlate.tiles import Tiles

KERNEL = CompiledKernel(
    name="entry",
    ptx=".version 8.0\n",
    architecture="sm_80",
    isa="8.0",
    driver="12.0",
    dtype="fp16",
    match_channels=64,
    value_channels=32,
    temperature=0.02,
    layout="channels_last",
    tiles=Tiles(64, 32, 64, 32, 4, 2),
    grid=Grid(64, 1),
    num_warps=4,
    shared=16512,
    registers=122,
    spills=8,
    tensor_memory=0,
    compiler="triton 0",
    arguments=("target", "queries"),
)


def test_ptx_lies_beside_the_json_that_describes_it(tmp_path: Path) -> None:
    other = replace(KERNEL, architecture="sm_90a", ptx=".version 8.1\n")
    (tmp_path / "mine.txt").write_text("stays")
    write_kernels([KERNEL, other], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * 2 + 2
    for kernel in (KERNEL, other):
        described = json.loads((tmp_path / f"{file_name(kernel)}.json").read_text())
        text = (tmp_path / described.pop("ptx")).read_bytes()
        assert text.decode() == kernel.ptx
        assert described.pop("sha256") == hashlib.sha256(text).hexdigest()
        described["tiles"], described["grid"] = Tiles(**described["tiles"]), Grid(**described["grid"])
        assert CompiledKernel(ptx=kernel.ptx, **described | {"arguments": tuple(described["arguments"])}) == kernel


def test_writing_again_changes_no_byte(tmp_path: Path) -> None:
    write_kernels([KERNEL], tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write_kernels([KERNEL], tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "sm_87"},
        {"dtype": "bf16"},
        {"match_channels": 32},
        {"value_channels": 64},
        {"temperature": 0.025},
        {"layout": "channels_first"},
    ],
)
def test_what_was_asked_for_is_in_the_name(change: dict[str, object]) -> None:
    assert file_name(replace(KERNEL, **change)) != file_name(KERNEL)  # type: ignore[arg-type]


def test_the_table_has_a_line_a_kernel(tmp_path: Path) -> None:
    table = write_kernels([KERNEL, KERNEL], tmp_path)
    assert table == resource_table([KERNEL, KERNEL]) == (tmp_path / "resources.md").read_text()
    head, rule, *rows = table.splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|")
    assert rows == ["| sm_80 | 8.0 | CUDA 12.0 | fp16 | channels_last | 64, 32 | 64 x 32 | 128 | 122 | 16512 | 8 |"] * 2


def raised(*arguments: object) -> str:
    return str(CliRunner().invoke(app, [str(argument) for argument in arguments]).exception)


def test_the_verb_refuses_what_has_no_kernel(tmp_path: Path) -> None:
    out = tmp_path / "kernels"
    assert "--run FOLDER or --preset NAME, not both" in raised("--output", out, "--run", tmp_path, "--preset", "tiny")
    assert "holds no run" in raised("--output", out, "--run", tmp_path)
    config = override(load_preset("tiny"), {"model.generator.alignment.kind": "concatenation"})
    save_config(config, tmp_path / "config.toml")
    assert "alignment is concatenation, which has no correlation" in raised("--output", out, "--run", tmp_path)
    assert "architecture 'sm_1'; choose sm_80" in raised("--output", out, "--architecture", "sm_1")
    assert "TRITON_INTERPRET is set" in raised("--output", out)
    assert not out.exists()

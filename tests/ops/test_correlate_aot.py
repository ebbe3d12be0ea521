"""PTX of the kernel: what it says of itself, what assemblers make of it, and that its bytes are always the same.

The interpreter of this folder's other tests and the compiler exclude each other: another process compiles.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from outfitgan.errors import ConfigError
from outfitgan.ops.correlate.ahead_of_time import compile_ptx
from outfitgan.ops.correlate.compiled_kernel import ARCHITECTURES, Grid
from outfitgan.ops.correlate.tiles import Tiles, candidate_tiles, default_tiles

PLAIN = ("fp16", 64, 64, 0.02)  # one product a tile, and no channel to spare
EXTRA = {  # on the portable architecture
    "bf16": ("sm_80", "bf16", 64, 64, 0.02),
    "fp32": ("sm_80", "fp32", 64, 64, 0.02),
    "warmer": ("sm_80", "fp16", 64, 64, 0.05),
    "channels first": ("sm_80", "fp16", 64, 64, 0.02, "channels_first"),
    "paper": ("sm_80", "fp16", 128, 256, 0.01),
    "widest": ("sm_80", "fp16", 256, 256, 0.01),
    "default": ("sm_80", "fp16", 32, 32, 0.02),
    "tiny": ("sm_80", "fp16", 16, 16, 0.02),
    "widths of no power": ("sm_80", "fp16", 48, 80, 0.02),
}
REQUESTS = {name: (name, *PLAIN) for name in ARCHITECTURES} | EXTRA
CODE = """
import json, sys
from outfitgan.ops.correlate.ahead_of_time import compile_ptx
from outfitgan.ops.correlate.tiles import Tiles
requests = json.load(sys.stdin)
made = {name: compile_ptx(*(Tiles(**x) if isinstance(x, dict) else x for x in requests[name])) for name in requests}
json.dump({name: kernel.to_json() | {"ptx": kernel.ptx} for name, kernel in made.items()}, sys.stdout)
"""


def compiled(requests: dict[str, Any], cwd: Path, **environment: str) -> dict[str, dict[str, Any]]:
    surrounding = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | environment
    command = [sys.executable, "-c", CODE]
    text = json.dumps(requests)
    done = subprocess.run(command, input=text, env=surrounding, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr
    kernels: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return kernels


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return compiled(REQUESTS, tmp_path_factory.mktemp("compiled"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ptx_says_its_architecture_and_an_isa_that_drivers_take(
    kernels: dict[str, dict[str, Any]], architecture: str
) -> None:
    """CUDA 12.8's driver reads ISA 8.7 at the most; 12.0's reads 8.0."""
    kernel = kernels[architecture]
    isa = {"sm_100a": "8.6", "sm_120": "8.7"}.get(architecture, "8.0")
    assert re.findall(r"^\.(version|target) (\S+)$", kernel["ptx"], re.MULTILINE) == [
        ("version", isa),
        ("target", architecture),
    ]
    assert (kernel["isa"], kernel["architecture"]) == (isa, architecture)
    assert kernel["sha256"] == hashlib.sha256(kernel["ptx"].encode()).hexdigest()


@pytest.mark.parametrize("name", REQUESTS)
def test_a_launcher_of_another_language_can_call_it(kernels: dict[str, dict[str, Any]], name: str) -> None:
    """Inputs, integers, the output, in this order; then two pointers that nothing reads. All at most 48 KiB."""
    kernel, ptx = kernels[name], kernels[name]["ptx"]
    assert kernel["arguments"] == ["target", "source", "values", "queries", "keys", "warped"]
    assert re.findall(r"\.visible \.entry (\w+)\(", ptx) == [kernel["name"]]
    kinds = re.findall(rf"\.param \.(\w+).* {kernel['name']}_param_\d", ptx)
    assert kinds == ["u64", "u64", "u64", "u32", "u32", "u64", "u64", "u64"]
    read = set(re.findall(rf"ld\.param\.\w+ *\t*[^;]*{kernel['name']}_param_(\d)", ptx))
    assert read == set("012345")
    assert re.findall(r"^\.reqntid (\d+)", ptx, re.MULTILINE) == [str(32 * kernel["num_warps"])]
    assert kernel["shared"] <= 48 * 1024
    assert kernel["tensor_memory"] == 0
    assert not re.search(r"cluster|tensormap|griddepcontrol", ptx)


@pytest.mark.parametrize("name", REQUESTS)
def test_nothing_spills(kernels: dict[str, dict[str, Any]], name: str) -> None:
    assert kernels[name]["spills"] == 0
    assert 16 <= kernels[name]["registers"] <= 255
    assert ".local" not in kernels[name]["ptx"]


def test_tiles_that_are_too_large_are_seen_to_spill(tmp_path: Path) -> None:
    """Which gives the zeros above their meaning; and the tiles that are asked for are those that are compiled."""
    tiles = Tiles(queries=64, keys=32, channels=128, values=128, warps=4, stages=1)
    kernel = compiled({"large": ("sm_80", "fp32", 128, 256, 0.02, "channels_last", asdict(tiles))}, tmp_path)["large"]
    assert kernel["spills"] > 100
    assert kernel["tiles"] == asdict(tiles)
    assert kernel["grid"] == {"rows": 64, "slices": 2}
    assert kernel["shared"] > 48 * 1024


@pytest.mark.parametrize("name", ["sm_80", "sm_90a", "bf16", "fp32", "tiny"])
def test_products_go_through_the_tensor_cores(kernels: dict[str, dict[str, Any]], name: str) -> None:
    kind = {"bf16": "bf16.bf16", "fp32": "tf32.tf32"}.get(name, "f16.f16")
    found = re.findall(r"(?:mma|wgmma)\S*\.f32\.(\w+\.\w+)(?:\.f32)?\s", kernels[name]["ptx"])
    assert found
    assert set(found) == {kind}


def test_channels_last_features_are_loaded_16_bytes_at_a_time(kernels: dict[str, dict[str, Any]]) -> None:
    """The pointers' alignment and the constant widths reach the loads; channels-first positions have neither."""
    last, first = (kernels[name]["ptx"] for name in ("sm_80", "channels first"))
    assert set(re.findall(r"ld\.global\S*", last)) == {"ld.global.v4.b32"}
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global .*?, .*?, (0x\w+)", last)
    assert set(copies) == {"0x10"}
    assert "ld.global.b16" in first


def test_the_temperature_is_in_the_text(kernels: dict[str, dict[str, Any]]) -> None:
    """exp2 of scores times log2(e) / temperature, which the compiler has folded into one FP32 constant."""
    for name, temperature in (("sm_80", 0.02), ("warmer", 0.05), ("paper", 0.01)):
        constant = struct.pack(">f", math.log2(math.e) / temperature).hex().upper()
        assert f"0F{constant}" in kernels[name]["ptx"].upper()
    assert kernels["sm_80"]["ptx"] != kernels["warmer"]["ptx"]


def test_the_bytes_are_the_same_in_any_process_and_hold_no_path(
    kernels: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    again = compiled({name: REQUESTS[name] for name in ("sm_90a", "sm_80")}, tmp_path, PYTHONHASHSEED="7")
    for name, kernel in again.items():
        assert kernel == kernels[name]
    for kernel in kernels.values():
        assert not re.search(r"\.file|\.loc\b|\.section|\.py\b", kernel["ptx"])
    assert not list(tmp_path.iterdir())


def assembled(assembler: str, architecture: str, ptx: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "kernel.ptx").write_text(ptx)
    options = ["-cubin"] if assembler == "nvcc" else []
    command = [assembler, *options, f"-arch={architecture}", "kernel.ptx", "-o", "kernel.cubin"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("assembler", ["ptxas", "nvcc"])
def test_another_assembler_takes_it(
    kernels: dict[str, dict[str, Any]], assembler: str, architecture: str, tmp_path: Path
) -> None:
    """CUDA's own where it is installed, instead of the one that comes with the kernel language."""
    if shutil.which(assembler) is None:
        pytest.skip(f"{assembler} is not here: CUDA's toolkit is not installed.")
    done = assembled(assembler, architecture, kernels[architecture]["ptx"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernel.cubin").read_bytes()[:4] == b"\x7fELF"


def test_portable_code_runs_on_what_came_later(kernels: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    if shutil.which("ptxas") is None:
        pytest.skip("ptxas is not here: CUDA's toolkit is not installed.")
    for written, later in (("sm_80", "sm_90"), ("sm_80", "sm_120"), ("sm_89", "sm_100"), ("sm_120", "sm_121")):
        done = assembled("ptxas", later, kernels[written]["ptx"], tmp_path)
        assert done.returncode == 0, (written, later, done.stderr)
    assert assembled("ptxas", "sm_100", kernels["sm_90a"]["ptx"], tmp_path).returncode != 0


def test_the_kernels_that_torch_launches_compile_too(tmp_path: Path) -> None:
    """As far as they can be tried without a GPU: the code their first call makes, with 16 bytes a load."""
    script = Path(__file__).with_name("strided_ptx.py")
    surrounding = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    surrounding["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, script], env=surrounding, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout)
    assert len(made) == 2 * 3
    for name, ptx in made.items():
        kernel = name.split()[0]
        assert re.findall(r"\.visible \.entry (\w+)\(", ptx) == [kernel]
        assert set(re.findall(r"cp\.async\.c[ag]\.shared\.global .*?, .*?, (0x\w+)", ptx)) == {"0x10"}
        assert set(re.findall(r"ld\.global\S*", ptx)) <= {"ld.global.v4.b32"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (("sm_75", *PLAIN), "not compiled for the architecture 'sm_75'; choose sm_80, sm_87, .*sm_120"),
        (("sm_80", "fp64", 64, 64, 0.02), "not compiled for the dtype 'fp64'; choose fp16, bf16, fp32"),
        (("sm_80", *PLAIN, "nhwc"), "not compiled for the layout 'nhwc'; choose channels_last, channels_first"),
        (("sm_80", "fp16", 257, 64, 0.02), "takes 1 to 256 channels, not 257 and 64; set narrower"),
        (("sm_80", "fp16", 64, 0, 0.02), "takes 1 to 256 channels, not 64 and 0"),
        (("sm_80", "fp16", 64, 64, 0.0), "finite temperature above 0, not 0.0"),
        (("sm_80", "fp16", 64, 64, math.inf), "finite temperature above 0, not inf"),
        (("sm_80", "fp16", 64, 64, math.nan), "finite temperature above 0, not nan"),
        (("sm_80", *PLAIN), "Nothing can be compiled where TRITON_INTERPRET is set; unset it"),
    ],
)
def test_what_cannot_be_compiled_is_refused(request_: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compile_ptx(*request_)


def test_the_grid_covers_every_position_once() -> None:
    for queries in (1, 63, 64, 65, 4096):
        rows, batch, slices = Grid(rows=64, slices=2).of(3, queries)
        assert (batch, slices) == (3, 2)
        assert 64 * (rows - 1) < queries <= 64 * rows


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("widths", [(1, 1), (16, 16), (48, 80), (64, 64), (256, 16), (256, 256)])
def test_tiles_are_powers_of_two_that_fit(itemsize: int, widths: tuple[int, int]) -> None:
    candidates = candidate_tiles(itemsize, *widths)
    assert candidates[0] == default_tiles(itemsize, *widths)
    assert len(set(candidates)) == len(candidates) > 3
    for tiles in candidates:
        for size in tiles.constants().values():
            assert size >= 16
            assert size & (size - 1) == 0
        assert tiles.channels < 2 * max(16, widths[0])
        assert tiles.values < 2 * max(16, widths[1])
        assert tiles.warps in (4, 8)

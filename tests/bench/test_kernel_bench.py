"""The GPU script as far as a machine without one goes: its cases, its sums, its verdicts, and how it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from bench.gpu import app
from bench.int8 import measurable
from bench.kernel_cases import LIMITS, KernelCase, check, check_cases
from bench.kernel_timing import fastest, preset_case, timed
from outfitgan.config import load_preset
from outfitgan.errors import ConfigError, UnsupportedError
from outfitgan.ops.correlate.dispatch import best_match
from outfitgan.ops.correlate.reference import reference
from outfitgan.ops.correlate.tiles import Tiles, candidate_tiles

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"
CASE = KernelCase("small", 16, 8, (5, 4), (3, 7), batch=2)


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def raised(*arguments: str) -> str:
    return str(CliRunner().invoke(app, arguments).exception)


def test_help_names_what_there_is() -> None:
    done = script("--help")
    assert done.returncode == 0
    for verb in ("all", "check", "tune", "time"):
        assert f"│ {verb} " in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="There is a GPU here, which is not refused.")
def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    sentence = "bench/gpu.py needs an NVIDIA GPU and torch's CUDA build; run it where both are."
    done = script("check", "--output", str(tmp_path / "figures.json"))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {sentence}\n")
    assert not list(tmp_path.iterdir())
    assert raised("all") == raised("tune") == raised("time") == sentence


def test_options_are_checked_before_a_gpu_is_asked_for() -> None:
    assert raised("time", "--dtype", "fp8") == "There is no dtype 'fp8'; choose fp16, bf16, fp32."
    assert "There is no preset 'nope'; choose" in raised("tune", "--preset", "nope")
    assert raised("tune", "--batch", "0") == "2"
    with pytest.raises(ConfigError, match="no preset 'nope'"):
        preset_case("nope", 1, "fp16")


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_a_presets_case_is_its_sams_correlation(preset: str) -> None:
    model = load_preset(preset).model
    alignment = model.generator.alignment
    grid = (model.image_size >> alignment.downsamples,) * 2
    case = preset_case(preset, 3, "bf16")
    target, source, values = case.inputs("meta")
    assert target.shape == source.shape == (3, alignment.match_channels, *grid)
    assert values.shape == (3, alignment.value_channels, *grid)
    assert {x.dtype for x in (target, source, values)} == {torch.bfloat16}
    assert case.temperature == alignment.temperature


def test_operations_are_those_of_both_products() -> None:
    """Every pair of positions: C multiplies and adds for the score, Cv for the mean."""
    assert CASE.operations == sum(2 * (16 + 8) for _ in range(2) for _ in range(5 * 4) for _ in range(3 * 7))
    row = timed("fused kernel", 0.5, 10**9, 8.0)
    assert (row.tflops, row.share) == (2.0, 0.25)


def test_the_fastest_tiles_have_the_least_time() -> None:
    candidates = candidate_tiles(2, 64, 64)
    times = {tiles: abs(place - 3.5) for place, tiles in enumerate(candidates)}
    times[candidates[4]] = 0.1
    assert fastest(times) == candidates[4]
    assert isinstance(fastest(times), Tiles)
    with pytest.raises(UnsupportedError, match="takes none of the kernel's tiles; set narrower"):
        fastest({})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the verbs run: one small case on the CPU, and times that nobody measured."""
    best, *_ = candidate_tiles(2, 16, 16)
    monkeypatch.setattr("bench.gpu._gpu", lambda: {"gpu": "none"})
    monkeypatch.setattr("bench.gpu.check_cases", lambda side: [replace(CASE, name=f"about {side}")])
    monkeypatch.setattr("bench.gpu.check", lambda case, device, *_: check(case, "cpu", right, best_match))
    monkeypatch.setattr("bench.gpu.tune_case", lambda case, repeats: {best: 0.5})
    monkeypatch.setattr("bench.gpu.ceiling_tflops", lambda dtype, repeats: 8.0)
    monkeypatch.setattr("bench.gpu.time_case", lambda case, ceiling, _: [timed("sdpa", 1.0, 10**9, ceiling)])


def test_one_verb_does_all_and_writes_one_json(gpu: None, tmp_path: Path) -> None:
    for verb in ("all", "check", "tune", "time"):
        options = ["--side", "9"] if verb in ("all", "check") else []
        options += ["--preset", "tiny", "--batch", "2"] if verb != "check" else []
        done = CliRunner().invoke(app, [verb, *options, "--output", str(tmp_path / verb)], catch_exceptions=False)
        assert done.exit_code == 0
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    facts = {"facts": {"gpu": "none"}}
    assert written["all"] == facts | {
        verb: {name: value for name, value in written[verb].items() if name != "facts"}
        for verb in ("check", "tune", "time")
    }
    assert written["all"]["check"]["checked"][0]["case"] == "about 9"
    assert written["all"]["tune"]["times"][0]["ms"] == 0.5
    assert (written["all"]["time"]["preset"], written["all"]["time"]["batch"]) == ("tiny", 2)


def test_a_kernel_that_is_not_right_is_not_timed(gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = partial(check, CASE, "cpu", lambda *given: right(*given) + 3e-3, best_match)
    monkeypatch.setattr("bench.gpu.check", lambda *_: wrong())
    for name in ("tune_case", "time_case"):
        monkeypatch.setattr(f"bench.gpu.{name}", lambda *_: pytest.fail("timed"))
    output = tmp_path / "all.json"
    assert raised("all", "--output", str(output)) == "Over the limit: small; take impl='sdpa' on this GPU."
    assert json.loads(output.read_text())["check"]["checked"][0]["passed"] is False


def test_cases_are_what_their_names_say() -> None:
    cases = {case.name: case for case in check_cases(12)}
    assert len(cases) == len(check_cases(12))
    assert {case.dtype for case in cases.values()} == set(LIMITS)
    for case in cases.values():
        target, source, values = case.inputs("cpu")
        assert all(torch.isfinite(x).all() for x in (target, source, values)), case.name
        assert float(values.abs().max()) <= 1
        assert not target[:, :, 0, 0].any()
        assert all(
            torch.equal(one, other) for one, other in zip(case.inputs("cpu"), (target, source, values), strict=True)
        )
    assert cases["features up to 6e4"].inputs("cpu")[1].abs().max() > 5.9e4
    assert cases["features of 1e-4"].inputs("cpu")[1].abs().max() < 1e-3
    flat = cases["flat regions"].inputs("cpu")[1]
    assert torch.equal(flat, flat[:, :, :1, :1].expand_as(flat))
    near = cases["near-tied keys"].inputs("cpu")[1].double().flatten(2)
    assert float(torch.cosine_similarity(near[..., :1], near, dim=1).min()) > 0.99
    assert cases["batch 3, channels first"].inputs("cpu")[0].is_contiguous()
    ground = cases["mostly zero vectors"].inputs("cpu")
    assert all(0.6 < 1 - float(x.any(dim=1).float().mean()) < 0.8 for x in ground[:2])
    assert not ground[0].flatten(2)[..., :64].any()  # a whole tile of the kernel's


def right(target: Tensor, source: Tensor, values: Tensor, temperature: float) -> Tensor:
    return reference(target, source, values, temperature)


def test_a_right_kernel_passes() -> None:
    for dtype in LIMITS:
        found = check(replace(CASE, dtype=dtype), "cpu", right, best_match)
        assert found.passed, found
        assert found.to_json()["passed"] is True
    assert check(replace(CASE, temperature=1e-3), "cpu", right, best_match).limit == 10 * LIMITS["fp16"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda *given: right(*given) + 3e-3,
        lambda *given: right(*given) * torch.nan,
        lambda *given: right(*given[:3], 2 * given[3]),
    ],
)
def test_a_wrong_warp_does_not_pass(wrong: object) -> None:
    assert not check(CASE, "cpu", wrong, best_match).passed  # type: ignore[arg-type]


def test_a_wrong_match_does_not_pass() -> None:
    def next_to_it(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        index, weight = best_match(target, source, temperature)
        return (index + 1) % source[0, 0].numel(), weight

    def too_heavy(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        index, weight = best_match(target, source, temperature)
        return index, weight + 2e-3

    def any_of_nothing(target: Tensor, source: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        index, weight = best_match(target, source, temperature)
        return torch.where(weight == 0, 7, index), weight

    found = check(CASE, "cpu", right, next_to_it)
    assert found.other_matches == 1
    assert not found.passed
    assert not check(CASE, "cpu", right, too_heavy).passed
    assert check(CASE, "cpu", right, any_of_nothing).other_matches == 1 / 20


# The other scripts' exits


def test_numerics_over_the_limit_exit_with_2() -> None:
    """With one small case and a limit that no kernel keeps."""
    code = (
        "import runpy\n"
        "from dataclasses import replace\n"
        "import bench.kernel_cases as cases\n"
        "case = replace(cases.check_cases(8)[0], channels=16, values=16)\n"
        "cases.check_cases = lambda side: [case]\n"
        "cases.LIMITS['fp16'] = 0\n"
        f"runpy.run_path({str(SCRIPT.with_name('numerics.py'))!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "error: Over the limit: width 64; the kernel is not to be trusted.\n",
    )


def test_int8_of_no_run_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT.with_name("int8.py"), "--run", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*none.*\n", done.stderr)


def test_int8_of_no_target_is_an_error() -> None:
    assert measurable({}) == ["openvino", "onnxruntime"]
    assert measurable({("openvino", "int8"): "no VNNI"}) == ["onnxruntime"]
    absent = {("openvino", "int8"): "no VNNI.", ("onnxruntime", "int8"): "too narrow."}
    says = r"both fp32 and int8 engines: openvino int8: no VNNI\.; onnxruntime int8: too narrow\."
    with pytest.raises(UnsupportedError, match=says):
        measurable(absent)

"""The fused kernels behind `correlate`: when they are taken, what is refused, and what torch sees of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from correlation_cases import error, features
from fused_cases import DTYPES, tolerance
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from outfitgan.config import load_preset
from outfitgan.errors import InputError
from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.ops.correlate import torch_ops
from outfitgan.ops.correlate.dispatch import best_match, correlate
from outfitgan.ops.correlate.torch_ops import obstacle


class Recorder(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Both(nn.Module):
    def forward(self, target: Tensor, source: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return correlate(target, source, values, 0.05, "fused") * 2, *best_match(target, source, 0.05, "fused")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_correlate_and_best_match_take_the_kernel_that_is_named(dtype: torch.dtype) -> None:
    tensors = features(1, 2, 32, 16, (5, 6), (4, 7), dtype)
    with Recorder() as seen:
        warped = correlate(*tensors, 0.05, "fused")
        index, weight = best_match(*tensors[:2], 0.05, "fused")
    assert {"outfitgan.correlate.default", "outfitgan.best_match.default"} <= set(seen.names)
    assert error(warped, *tensors, 0.05) < tolerance(dtype, 0.05)
    assert warped.is_contiguous(memory_format=torch.channels_last)
    expected = best_match(*tensors[:2], 0.05, "reference")
    assert torch.equal(index, expected[0])
    torch.testing.assert_close(weight, expected[1], atol=1e-5, rtol=0)
    assert (index.dtype, weight.dtype, index.shape) == (torch.int64, torch.float32, (2, 5, 6))


def test_the_sam_matches_as_its_torch_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real module at the smallest preset, its two calls sent through the kernel."""
    alignment = SemanticAlignment(load_preset("tiny").model.generator).eval()
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, (torch.rand(1, 1, 64, 64) > 0.5).float()
    with torch.no_grad():
        expected = alignment.match(image, mask)
        monkeypatch.setattr("outfitgan.networks.alignment.correlate", lambda *given: correlate(*given, "fused"))
        monkeypatch.setattr("outfitgan.networks.alignment.best_match", lambda *given: best_match(*given, "fused"))
        found = alignment.match(image, mask)
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[2], expected[2], atol=1e-4, rtol=0)
    assert (found[1] == expected[1]).float().mean() > 0.99  # keys may tie to the last digit


def test_on_a_cpu_auto_is_torch_code() -> None:
    tensors = features(2)
    with Recorder() as seen, torch.no_grad():
        correlate(*tensors, 0.05)
        best_match(*tensors[:2], 0.05)
    assert not [name for name in seen.names if name.startswith("outfitgan")]


def traced_on_cuda(call: Callable[[Tensor, Tensor, Tensor], Any], width: int = 32, **options: Any) -> list[str]:
    """Operators that `call` runs on CUDA tensors that have no numbers: no GPU is needed."""
    options = {"device": "cuda", "dtype": torch.float16} | options
    with FakeTensorMode(), Recorder() as seen:
        one, other = (torch.empty(2, width, 5, 6, **options) for _ in range(2))
        call(one, other, torch.empty(2, 16, 5, 6, **options))
    return seen.names


def warp(target: Tensor, source: Tensor, values: Tensor) -> Tensor:
    return correlate(target, source, values, 0.05)


@pytest.mark.filterwarnings("error")
def test_on_cuda_auto_is_the_kernel_in_inference() -> None:
    with torch.no_grad():
        assert "outfitgan.correlate.default" in traced_on_cuda(warp, requires_grad=True)
        matched = traced_on_cuda(lambda target, source, _: best_match(target, source, 0.05))
    assert "outfitgan.best_match.default" in matched
    assert "outfitgan.correlate.default" in traced_on_cuda(warp)


@pytest.fixture
def sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    """An addition for sdpa, which torch's CPU build cannot trace for CUDA."""
    monkeypatch.setattr("outfitgan.ops.correlate.dispatch.sdpa_correlate", lambda *given: given[2] + 1)


@pytest.mark.filterwarnings("error")
def test_on_cuda_auto_is_sdpa_in_training(sdpa: None) -> None:
    trained = traced_on_cuda(lambda *tensors: warp(*tensors[:2], tensors[2].detach()), requires_grad=True)
    assert "aten.add.Tensor" in trained
    assert "outfitgan.correlate.default" not in trained


def test_what_keeps_auto_from_the_kernel_on_cuda_is_said(sdpa: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(match: str, **options: Any) -> None:
        with pytest.warns(UserWarning, match=f"goes without its fused kernel: .*{match}"):
            traced = traced_on_cuda(warp, **options)
        assert "aten.add.Tensor" in traced
        assert "outfitgan.correlate.default" not in traced

    said(r"it computes float16, bfloat16 and float32, not torch\.float64; cast", dtype=torch.float64)
    said("256 channels at the most, not 257; set narrower", width=257)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    said("this GPU has compute capability 7.5, not 8.0 or later; take sdpa")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert "outfitgan.correlate.default" in traced_on_cuda(warp)
    monkeypatch.setattr(torch_ops, "_INSTALLED", False)
    said(r"the package triton is not here; install this project's extra \[kernel\]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.double(), r"it computes float16, bfloat16 and float32, not torch\.float64; cast the tensors"),
        (lambda x: x.to(torch.int32), r"not torch\.int32; cast the tensors"),
        (lambda x: x.repeat(1, 20, 1, 1), "it takes 256 channels at the most, not 320; set narrower ones or take sdpa"),
        (lambda x: x.clone().requires_grad_(), r"it has no gradient; take sdpa, or call it under torch\.no_grad\(\)"),
        (lambda x: x.to("meta"), "it runs on CUDA, not on meta; move the tensors, or interpret it"),
    ],
)
def test_what_the_kernel_cannot_take_is_refused_with_the_fix(change: Callable[[Tensor], Tensor], message: str) -> None:
    target, source, values = (change(x) for x in features(0, 2, 16, 16, (5, 6), (5, 6)))
    with pytest.raises(InputError, match=f"fused kernel cannot take this: .*{message}"):
        correlate(target, source, values, 0.05, "fused")
    with pytest.raises(InputError, match=message):
        best_match(target, source, 0.05, "fused")


def test_offsets_that_32_bits_do_not_hold_are_an_obstacle() -> None:
    """Of 16 channels 2**27 apart the last begins at 15 * 2**27, of 17 the last at 2**31."""
    there = torch.empty(0, device="meta")
    near, far = (there.as_strided((2, channels, 1, 1), (2**40, 2**27, 1, 1)) for channels in (16, 17))
    assert "runs on CUDA" in str(obstacle(near))
    assert "span 2**31 numbers or more; make them contiguous" in str(obstacle(near, far))


def test_a_result_that_32_bits_do_not_count_is_an_obstacle() -> None:
    """Of 2**23 positions with 255 channels it fits, with 256 it has 2**31 numbers; target and source are small."""
    target = torch.empty(1, 16, 1, 1, device="meta").expand(1, 16, 2**12, 2**11)
    source = torch.empty(1, 16, 4, 4, device="meta")
    fits, too_wide = (torch.empty(1, width, 4, 4, device="meta") for width in (255, 256))
    assert "runs on CUDA" in str(obstacle(target, source, fits))
    assert "runs on CUDA" in str(obstacle(target, source))  # of best_match
    assert "result has 2**31 numbers or more; set fewer value channels" in str(obstacle(target, source, too_wide))


def test_without_the_interpreter_a_cpu_has_no_kernel() -> None:
    """In a process of its own, since the kernel language is one or the other for good."""
    code = (
        "import sys, torch\n"
        "from outfitgan.ops.correlate.dispatch import correlate\n"
        "from outfitgan.errors import InputError\n"
        "assert 'triton' not in sys.modules, 'imported with the module'\n"
        "try: correlate(*[torch.ones(1, 16, 2, 2)] * 3, 0.1, 'fused')\n"
        "except InputError as error: print(error)\n"
    )
    environment = {"PATH": "/usr/bin", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "it runs on CUDA, not on cpu; move the tensors, or interpret it with TRITON_INTERPRET=1" in done.stdout, done


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_torch_accepts_the_operators(layout: torch.memory_format) -> None:
    """torch's own check of schema, fake kernel and tracing, with strides."""
    target, source, values = (x.to(memory_format=layout) for x in features(3, 2, 16, 20, (3, 4), (4, 5)))
    torch.library.opcheck(torch.ops.outfitgan.correlate.default, (target, source, values, 0.05))
    torch.library.opcheck(torch.ops.outfitgan.best_match.default, (target, source, 0.05))


def test_compiled_and_exported_models_hold_the_operators() -> None:
    tensors = features(4, 2, 16, 16, (3, 4), (4, 5))
    expected = Both()(*tensors)
    compiled = torch.compile(Both(), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*tensors), expected, atol=0, rtol=0)
    batch = torch.export.Dim("batch")
    program = torch.export.export(Both(), tensors, dynamic_shapes=({0: batch},) * 3)
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called.count("outfitgan.correlate.default") == called.count("outfitgan.best_match.default") == 1
    other = features(5, 3, 16, 16, (3, 4), (4, 5))
    torch.testing.assert_close(program.module()(*other), Both()(*other), atol=0, rtol=0)

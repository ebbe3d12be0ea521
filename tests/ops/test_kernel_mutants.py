"""The numerics suite notices a kernel with a fault: each line that keeps it right is spoilt once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from correlation_cases import attention, error, features, wide
from fused_cases import BROAD, SMALL, constant_case, fused, fused_match, tolerance

from outfitgan.ops.correlate import kernel, launch

SOURCE = Path(kernel.__file__).read_text(encoding="utf-8")
FAULTS = {
    "no maximum is subtracted": ("weights = tl.exp2(scores - top[:, None])", "weights = tl.exp2(scores)"),
    "the weighted sum does not fade": ("mixed * fade[:, None]", "mixed"),
    "the weights' sum does not fade": ("total = total * fade", "total = total"),
    "the maximum of the last tile alone": ("top = tl.maximum(best, tl.max(scores, 1))", "top = tl.max(scores, 1)"),
    "the sum of unrounded weights": ("tl.sum(weights.to(tl.float32), 1)", "tl.sum(tl.exp2(scores - top[:, None]), 1)"),
    "keys beyond the last are the best of no numbers": (
        'tl.where((columns < sources.count)[None, :], scores, float("-inf"))',
        "scores",
    ),
    "the keys' norm is left out": (" * _inverse_norm(squares)[None, :]", ""),
    "the queries' norm is left out": ("_inverse_norm(squares) * (LOG2_E", "(0 * squares + 1) * (LOG2_E"),
    "powers of two for those of e": ("LOG2_E / temperature", "1 / temperature"),
    "a zero vector divides by zero": ("tl.maximum(squares, MIN_SQUARE)", "squares"),
    "zero keys are weighed": ("tl.where(squares <= MIN_SQUARE, EXCLUDED, 0.0)", "0 * squares"),
    "zero keys are as if beyond the last": ("tl.constexpr(-1e30)", 'tl.constexpr(float("-inf"))'),
    "zero queries are matched": ("unmatched = zero | (best == EXCLUDED)", "unmatched = best == EXCLUDED"),
    "zero keys alone are matched": ("unmatched = zero | (best == EXCLUDED)", "unmatched = zero"),
    "a tile is skipped for one zero query": ("tl.min(zero.to(tl.int32)) > 0", "tl.max(zero.to(tl.int32)) > 0"),
    "vectors are zero at a length of 0 alone": ("squares <= MIN_SQUARE", "squares <= 0"),
    "squares in the tensors' dtype": ("tl.sum(wide * wide, 1)", "tl.sum((tile * tile).to(tl.float32), 1)"),
    "norms of the first chunk alone": ("        squares += _squares(key)\n", ""),
    "products of the last chunk alone": ("tl.trans(key).to(PRODUCT), products,", "tl.trans(key).to(PRODUCT),"),
    "one chunk for all slices": ("value = _tile(carried, columns, channel,", "value = _tile(carried, columns, 0,"),
    "one image for the whole batch": ("source + image * source_strides[0]", "source"),
    "channels beyond the last are loaded": ("if WIDTH % BLOCK != 0:", "if WIDTH < 0:"),
    "the last of equals": ("highest > best", "highest >= best"),
    "an offset for an index": ("start + offset", "offset"),
    "the match's sum does not fade": ("total * tl.exp2(best - top) +", "total +"),
}


def faultless() -> bool:
    """The suite in small: a few seconds' worth of the cases in test_correlate_kernel."""
    half = features(0, 2, 24, 32, (4, 5), (5, 7), torch.float16)
    zeros = features(1, 2, 16, 16, (3, 3), (5, 5), torch.float16)
    zeros[0][..., 1:], zeros[1][..., :4, :], zeros[1][1] = 0, 0, 0
    short = zeros[0] + 6e-8 * (zeros[0] == 0), zeros[1] + 6e-8 * (zeros[1] == 0), zeros[2]  # FP16's least number
    huge = features(2, 1, 32, 16, (3, 3), (4, 5))
    huge = (huge[0].sign() * 6e4).half(), (huge[1].sign() * 6e4).half(), huge[2].half()
    for tiles in (SMALL, BROAD):
        for tensors, temperature in ((half, 0.01), (zeros, 1.0), (short, 1.0), (huge, 0.01)):
            if not error(fused(*tensors, temperature, tiles), *tensors, temperature) < tolerance(torch.float16, 0.01):
                return False
    sharp = features(3, 1, 16, 16, (5, 4), (6, 7))
    if not error(fused(*sharp, 1e-3), *sharp, 1e-3) < tolerance(torch.float32, 1e-3):
        return False
    target, source, values, temperature = constant_case()
    if not torch.equal(fused(target, source, values, temperature), values[..., :1, :1].expand(1, 16, 5, 4)):
        return False
    if not fused_match(half[0], half[1][..., :2, :] * torch.nan, 0.05)[1].isnan().all():
        return False
    equals = half[1][..., :1, :1].expand(2, 24, 5, 7)
    return matches(half[0], half[1]) and matches(half[0], equals) and matches(zeros[0], zeros[1])


def matches(target: torch.Tensor, source: torch.Tensor) -> bool:
    index, weight = fused_match(target, source, 0.05)
    weights = torch.from_numpy(attention(wide(target), wide(source), 0.05))
    right = torch.equal(index.flatten(1), weights.argmax(-1))
    return right and torch.allclose(weight.flatten(1).double(), weights.amax(-1), atol=1e-4)


def module_of(text: str, path: Path) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernel(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the kernels of a changed text in the place of ours."""
    old, new = request.param
    assert SOURCE.count(old) >= 1, f"the kernel has no '{old}' any more"
    changed = module_of(SOURCE.replace(old, new), tmp_path / f"changed_{abs(hash(old))}.py")
    for name in ("correlate_strided", "best_match_strided"):
        monkeypatch.setattr(launch, name, getattr(changed, name))
    yield
    launch._configured.cache_clear()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kernel", [("View", "View")], indirect=True)
def test_the_kernel_as_it_is_passes(kernel: None) -> None:
    assert faultless()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kernel", FAULTS.values(), ids=FAULTS, indirect=True)
def test_a_spoilt_kernel_fails(kernel: None) -> None:
    assert not faultless()

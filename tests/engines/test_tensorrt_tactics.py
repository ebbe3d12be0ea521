"""The kernels offered to TensorRT, compiled for real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from compiler import compiled_apart

from engines.tensorrt import tactics
from engines.tensorrt.tactics import Correlation, Kernels, architectures
from outfitgan.errors import ConfigError, EngineError

WIDE = Correlation("fp16", match_channels=256, value_channels=256, temperature=0.02, layout="channels_last")


@pytest.fixture(autouse=True, scope="module")
def compiled() -> Iterator[None]:
    with compiled_apart():
        yield


@pytest.mark.parametrize(
    ("capability", "hardware", "expected"),
    [
        ("8.0", "this_gpu", ("sm_80",)),
        ("8.9", "this_gpu", ("sm_80",)),
        ("9.0", "this_gpu", ("sm_80", "sm_90a")),
        ("9.0", "same_compute_capability", ("sm_80", "sm_90a")),
        ("9.0", "ampere_plus", ("sm_80",)),  # its code runs on Hopper alone
        ("10.0", "this_gpu", ("sm_80",)),
        ("12.0", "this_gpu", ("sm_80",)),
    ],
)
def test_architectures(capability: str, hardware: str, expected: tuple[str, ...]) -> None:
    assert architectures(capability, hardware) == expected


@pytest.mark.parametrize("capability", ["7.5", "5.2"])
def test_older_gpus_are_refused(capability: str) -> None:
    with pytest.raises(EngineError, match=rf"8\.0 or newer \(Ampere\), not {capability}"):
        architectures(capability, "ampere_plus")


def test_what_a_plain_launch_cannot_run_is_left_out() -> None:
    """At this width some tilings of the candidates take over 48 KiB of shared memory."""
    from outfitgan.ops.correlate.tiles import candidate_tiles, default_tiles

    kernels = Kernels(("sm_80",))
    offered = kernels.of(WIDE)
    assert list(offered) == [1, 2, 3, 4]
    assert offered[1].tiles == default_tiles(2, 256, 256)
    assert all(kernel.shared <= 48 * 1024 for kernel in offered.values())
    assert not any(kernel.spills or kernel.tensor_memory for kernel in offered.values())
    assert [kernel.tiles for kernel in offered.values()] != list(candidate_tiles(2, 256, 256)[:4])
    assert kernels.requested == {WIDE: offered}
    kernels.start()
    assert not kernels.requested
    assert kernels.of(WIDE) is offered  # another graph of the same widths compiles nothing
    assert kernels.requested == {WIDE: offered}


def test_inputs_then_integers_then_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which TensorRT hands a kernel its arguments."""
    monkeypatch.setattr(tactics, "_TACTICS", 1)
    small = Correlation("fp16", 16, 16, 0.02, "channels_first")
    kernel = Kernels(("sm_80",)).of(small)[1]
    assert kernel.arguments == ("target", "source", "values", "queries", "keys", "warped")
    assert kernel.layout == "channels_first"


def test_why_there_are_none_is_kept() -> None:
    kernels = Kernels(("sm_80",))
    with pytest.raises(ConfigError, match="takes 1 to 256 channels, not 512"):
        kernels.of(Correlation("fp16", 512, 512, 0.02, "channels_last"))
    assert isinstance(kernels.failure, ConfigError)
    kernels.start()
    assert kernels.failure is None

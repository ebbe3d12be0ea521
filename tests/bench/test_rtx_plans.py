"""Every preset's graphs through the real parser and builder: tiny in each run, the others by `make test-engines`."""

from __future__ import annotations

import logging

import pytest

from bench.rtx_plans import PRECISIONS, build_preset
from outfitgan.config import load_preset, preset_names

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed; pip install 'outfitgan[rtx]'")

SLOW = [pytest.param(name, marks=pytest.mark.presets) for name in preset_names() if name != "tiny"]


@pytest.mark.parametrize("preset", ["tiny", *SLOW])
def test_every_graph_is_built(preset: str, caplog: pytest.LogCaptureFixture) -> None:
    """The build itself fails where a correlation is not fused or a convolution is not in the graph's type."""
    with caplog.at_level(logging.WARNING):
        rows = {(row.graph, row.precision): row for row in build_preset(preset, PRECISIONS)}
    assert not [record for record in caplog.records if record.name.startswith("engines")]  # nothing to worry about
    made = "generator_outfit" if load_preset(preset).model.generator.architecture == "shared" else "generator_bag"
    assert {(made, "fp16"), (made, "int8"), ("collocation", "fp16"), ("mask_generator_bag", "fp16")} <= set(rows)
    for row in rows.values():
        assert row.capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")
        assert row.size > 10**6
        assert 0 < row.convolutions < row.kernels
        assert row.fused == (row.graph.startswith(("generator", "alignment")))
        assert 0 < row.activations < 2 * 10**9
    assert rows[made, "int8"].int8 > rows[made, "int8"].convolutions / 2
    assert all(row.int8 == 0 for row in rows.values() if row.precision == "fp16")

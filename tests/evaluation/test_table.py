"""The table of results, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.evaluation.table import Metric, show_metrics, write_metrics
from outfitgan.items import ItemKind

MISSING = "LPIPS needs VGG-16's published weights: set losses.vgg_weights to their file."
RESULTS = [
    Metric("SSIM", "all", Interval(0.7123, 0.69, 0.734, 43), "higher"),
    Metric("SSIM", ItemKind.SHOES, Interval(0.8, 0.79, 0.81, 43), "higher"),
    Metric("SSIM", ItemKind.BAG, Interval(0.6, 0.55, 0.65, 43), "higher"),
    Metric("LPIPS (VGG-16)", "all", None, "lower", MISSING),
    Metric("LPIPS (VGG-16)", ItemKind.BAG, None, "lower", MISSING),
    Metric("AUC [of CCM]", "all", Interval(0.9, 0.85, 0.95, 40), "higher", "Another classifier than training's."),
]


def printed(metrics: list[Metric]) -> str:
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as capture:
        show_metrics(metrics, "run [1]", console)
    return capture.get()


def row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.lstrip(" │┃").startswith(start) and "│" in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_one_row_a_metric_and_one_column_a_kind_in_collocation_order() -> None:
    text = printed(RESULTS)
    header = next(line for line in text.splitlines() if "metric" in line)
    assert [cell.strip() for cell in header.strip("┃").split("┃")] == ["metric", "bag", "shoes", "all"]
    expected = ["SSIM ↑", "0.600 [0.550, 0.650]", "0.800 [0.790, 0.810]", "0.712 [0.690, 0.734]"]
    assert row(text, "SSIM") == expected
    assert row(text, "AUC") == ["AUC [of CCM] ↑", "", "", "0.900 [0.850, 0.950]"]
    assert "run [1]" in text
    assert "over 40 to 43 outfits" in text


def test_what_is_missing_is_a_row_and_a_sentence_once() -> None:
    text = printed(RESULTS)
    assert row(text, "LPIPS") == ["LPIPS (VGG-16) ↓", "missing", "", "missing"]
    assert text.count(f"LPIPS (VGG-16): {MISSING}") == 1
    assert "AUC [of CCM]: Another classifier than training's." in text
    assert "bootstrap" not in printed([RESULTS[3]])


def test_the_json_holds_all_of_it(tmp_path: Path) -> None:
    path = write_metrics(RESULTS, {"data": "ccp", "outfits": 43}, tmp_path / "deep" / "metrics.json")
    content = json.loads(path.read_text())
    assert content["facts"] == {"data": "ccp", "outfits": 43}
    rows = content["metrics"]
    assert len(rows) == len(RESULTS)
    assert rows[1] == {
        "name": "SSIM",
        "kind": "shoes",
        "interval": {"value": 0.8, "low": 0.79, "high": 0.81, "n": 43},
        "better": "higher",
        "note": "",
    }
    assert rows[3]["interval"] is None
    assert rows[3]["note"] == MISSING
    with pytest.raises(ValueError, match="JSON"):
        write_metrics([Metric("SSIM", "all", Interval(float("nan"), 0, 1, 2), "higher")], {}, path)
    assert json.loads(path.read_text())["metrics"] == rows

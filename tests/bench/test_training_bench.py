"""What the benchmark's rows of a training do, and what is said of them."""

from __future__ import annotations

import pytest
import torch

from bench import training_rows
from bench.latency_report import training_goals
from bench.rows import ROWS
from bench.spec import Spec
from outfitgan.config import load_preset, override
from outfitgan.training.runs import Run
from outfitgan.training.untrained import save_untrained


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    folder = tmp_path_factory.mktemp("bench") / "run"
    save_untrained(Run.create(folder, override(load_preset("tiny"), {"model.image_size": 32, "data.count": 8})))
    return Spec(folder, folder / "none.npz", threads=1)


@pytest.mark.parametrize(("row", "moves"), [("step", True), ("passes", False)])
def test_a_step_moves_the_weights_and_its_passes_take_their_gradients_alone(
    spec: Spec, monkeypatch: pytest.MonkeyPatch, row: str, moves: bool
) -> None:
    trainer = training_rows._trainer(spec)
    monkeypatch.setattr(training_rows, "_trainer", lambda _: trainer)
    networks = (trainer.generator, trainer.discriminator)
    before = [[weight.clone() for weight in network.parameters()] for network in networks]
    with getattr(training_rows, row)(spec) as call:
        call()
    for network, weights in zip(networks, before, strict=True):
        assert any(weight.grad is not None and weight.grad.any() for weight in network.parameters())
        changed = [not torch.equal(*pair) for pair in zip(network.parameters(), weights, strict=True)]
        assert any(changed) is moves


@pytest.mark.parametrize("row", ["data-store", "data-augmented"])
def test_what_feeds_a_training_goes_round_the_outfits(spec: Spec, row: str) -> None:
    assert ROWS[row].outfits is not None
    assert ROWS[row].outfits(Run.open(spec.run).config) == training_rows.GATHERED
    with ROWS[row].open(spec) as call:
        assert [call() for _ in range(3)] == [{}] * 3  # more than there are


def test_the_table_says_whether_a_training_keeps_to_its_goals() -> None:
    results = {"train-step": {"p50_ms": 130.0, "peak_rss_mib": 6144.0}, "train-passes": {"p50_ms": 100.0}}
    assert training_goals(results) == [
        "A training step takes 1.30 of its passes alone (p50): within 1.3.",
        "Its process takes 6.00 GiB of memory: within 6 GiB.",
    ]
    results["train-step"] = {"p50_ms": 140.0, "peak_rss_mib": 7000.0}
    assert training_goals(results) == [
        "A training step takes 1.40 of its passes alone (p50): above 1.3.",
        "Its process takes 6.84 GiB of memory: above 6 GiB.",
    ]
    assert training_goals({"train-step": {"error": "none"}, "torch": {"p50_ms": 1.0}}) == []

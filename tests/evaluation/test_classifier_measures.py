"""AUC and fill-in-the-blank of classifiers whose answers are known: one knows every outfit, another guesses."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_cases import OUTFITS, small, values, write_outfits
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.data.outfit_store import open_store
from outfitgan.errors import InputError
from outfitgan.evaluation.classifier_measures import measure_classifier
from outfitgan.training.batches import batch_of

AUC, BLANK = "AUC, oracle", "fill in the blank, oracle"


class Oracle(nn.Module):
    """Knows the held-out outfits by their pixels, at the size of the config's classifier."""

    def __init__(self, config: Config, right: float, wrong: float) -> None:
        super().__init__()
        store = open_store(config.data, config.model.collocation.input_size, "test", config.training.seed)
        images = batch_of(*store.gather(store.rows(range(len(store))))).images  # (N, 4, 3, s, s)
        self.known = {outfit.numpy().tobytes() for outfit in images}
        self.right, self.wrong = right, wrong
        self.seen: list[bool] = []

    def forward(self, outfits: Tensor) -> Tensor:
        """Return logits (N,) of outfits (N, 4, 3, s, s)."""
        knows = [outfit.contiguous().numpy().tobytes() in self.known for outfit in outfits]
        self.seen += knows
        return torch.tensor([self.right if known else self.wrong for known in knows])


@pytest.mark.parametrize(
    ("right", "wrong", "auc", "blank"), [(5.0, -5.0, 1.0, 1.0), (-5.0, 5.0, 0.0, 0.0), (1.0, 1.0, 0.5, 0.25)]
)
@pytest.mark.parametrize("size", [32, 64])  # of images; the classifier's input is 32 in both
def test_a_classifier_is_as_good_as_what_it_knows(
    right: float, wrong: float, auc: float, blank: float, size: int
) -> None:
    config = small(model__image_size=size)
    metrics = measure_classifier(Oracle(config, right, wrong), config, "oracle")
    assert [(metric.name, metric.kind, metric.better) for metric in metrics] == [
        (AUC, "all", "higher"),
        (BLANK, "all", "higher"),
    ]
    for metric, expected in zip(metrics, (auc, blank), strict=True):
        assert metric.interval is not None
        interval = metric.interval
        assert [interval.low, interval.value, interval.high] == pytest.approx([expected] * 3, abs=1e-9)
        assert interval.n == OUTFITS


def test_it_is_asked_of_every_outfit_every_negative_and_every_blank() -> None:
    config = small()
    oracle = Oracle(config, 5.0, -5.0)
    measure_classifier(oracle, config, "oracle")
    negatives, choices = 4 * OUTFITS, 4 * 4 * OUTFITS
    assert oracle.seen[:OUTFITS] == [True] * OUTFITS
    assert oracle.seen[OUTFITS : OUTFITS + negatives] == [False] * negatives
    assert oracle.seen[OUTFITS + negatives :] == [True, False, False, False] * (choices // 4)


class Recorder(nn.Module):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, outfits: Tensor) -> Tensor:
        """Return logits (N,) of outfits (N, 4, 3, s, s)."""
        self.asked.append(outfits)
        return torch.zeros(len(outfits))


def test_a_wrong_choice_is_another_outfits_item_of_the_same_kind() -> None:
    config = small()
    runs = []
    for _ in range(2):
        recorder = Recorder()
        measure_classifier(recorder, config, "oracle")
        runs.append(torch.cat(recorder.asked))
    assert torch.equal(*runs)  # the same choices every time
    real = runs[0][:OUTFITS]  # (N, 4, 3, s, s)
    questions = runs[0][5 * OUTFITS :].unflatten(0, (OUTFITS, 4, 4))  # outfit, blank, choice
    for outfit, place in itertools.product(range(OUTFITS), range(4)):
        right, *wrong = questions[outfit, place]
        assert torch.equal(right, real[outfit])
        chosen = []
        for choice in wrong:
            differs = (choice != right).flatten(1).any(dim=1).tolist()
            assert differs == [slot == place for slot in range(4)]
            chosen += [other for other in range(OUTFITS) if torch.equal(choice[place], real[other, place])]
        assert len(set(chosen)) == 3
        assert outfit not in chosen


def test_a_count_asks_of_the_first_outfits_what_is_asked_of_all() -> None:
    config = small()
    asked = []
    for count in (0, 3, 99):
        recorder = Recorder()
        metrics = measure_classifier(recorder, config, "oracle", count)
        assert {metric.interval.n for metric in metrics if metric.interval} == {min(count, OUTFITS) or OUTFITS}
        asked.append(torch.cat(recorder.asked))
    whole, some, beyond = asked
    assert torch.equal(whole, beyond)
    real, negatives, blanks = whole[:OUTFITS], whole[OUTFITS : 5 * OUTFITS], whole[5 * OUTFITS :]
    assert torch.equal(some, torch.cat([real[:3], negatives[:12], blanks[:48]]))


def test_an_item_that_every_outfit_has_is_no_blank(tmp_path: Path) -> None:
    """With two others to choose from, choices repeat; with none there is nothing to ask."""
    for one_bag, asked in ((False, 12), (True, 9)):
        root = tmp_path / str(one_bag)
        write_outfits(root, one_bag=one_bag)
        config = small(data__name="folder", data__root=str(root))
        oracle = Oracle(config, 5.0, -5.0)
        metrics = measure_classifier(oracle, config, "oracle")
        assert values(metrics, BLANK)["all"] == pytest.approx(1.0)
        assert np.sum(oracle.seen[3 + 12 :]) == asked
        assert len(oracle.seen) == 3 + 12 + 4 * asked


def test_one_outfit_is_too_few_to_measure() -> None:
    config = small(data__count=1)
    with pytest.raises(InputError, match="at least 2"):
        measure_classifier(Oracle(config, 1.0, 0.0), config, "oracle")

"""How well a CCM or a scorer separates compatible outfits from incompatible ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from outfitgan.config import Config
from outfitgan.data.outfit_store import OutfitStore, open_store
from outfitgan.evaluation.judge import score
from outfitgan.evaluation.metrics.arrays import Scores
from outfitgan.evaluation.metrics.bootstrap import mean_interval, resample
from outfitgan.evaluation.metrics.ranking import fill_in_the_blank
from outfitgan.evaluation.metrics.set_intervals import auc_interval
from outfitgan.evaluation.table import Metric
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.training.batches import batch_of

_VARIANTS = 4  # hard negatives an outfit
_WRONG = 3  # wrong choices of a blank, as in the published Polyvore questions


def measure_classifier(classifier: nn.Module, config: Config, name: str, count: int = 0) -> list[Metric]:
    """Return the AUC against hard negatives and the fill-in-the-blank accuracy on the held-out outfits.

    Of those it asks for the first `count` at the most, 0 for all; what is put in an item's place may be any outfit's.

    A blank is every item of every outfit in turn, unless all outfits share it; the wrong choices are the same kind's
    items of other outfits, so chance is 1 in 4.
    """
    store = open_store(config.data, config.model.collocation.input_size, "test", config.training.seed)
    indices = range(min(count, len(store)) if count else len(store))
    real = _scores(classifier, store, [store.rows([index])[0] for index in indices])
    pairs = [(index, variant) for index in indices for variant in range(_VARIANTS)]
    fake = _scores(classifier, store, [store.negative_rows(*pair) for pair in pairs])
    owners = [store.names[index] for index, _ in pairs]
    auc = auc_interval(np.repeat(real, _VARIANTS), fake, resample(owners))
    blanks, questions = _blanks(store, len(indices))
    answers = _scores(classifier, store, blanks).reshape(-1, 1 + _WRONG)
    credit = fill_in_the_blank(answers)
    return [
        Metric(f"AUC, {name}", "all", auc, "higher"),
        Metric(f"fill in the blank, {name}", "all", mean_interval(credit, resample(questions)), "higher"),
    ]


def _blanks(store: OutfitStore, count: int) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Return `count` outfits with each item in turn right and then replaced, and which one each question is about."""
    rows = store.rows(range(len(store)))  # (N, 4)
    rng = np.random.default_rng(0)
    outfits, questions = [], []
    for index, own in enumerate(rows[:count]):
        for place in range(len(COLLOCATION_ORDER)):
            wrong = np.flatnonzero(rows[:, place] != own[place])
            if not len(wrong):
                continue
            chosen = rng.choice(wrong, size=_WRONG, replace=len(wrong) < _WRONG)
            outfits.append(own)
            for other in chosen:
                changed = own.copy()
                changed[place] = rows[other, place]
                outfits.append(changed)
            questions.append(store.names[index])
    return outfits, questions


def _scores(classifier: nn.Module, store: OutfitStore, rows: list[NDArray[np.int64]]) -> Scores:
    parts = [batch_of(*store.gather(np.stack(rows[at : at + 256]))).images for at in range(0, len(rows), 256)]
    return np.concatenate([score(classifier, images) for images in parts])

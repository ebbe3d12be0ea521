"""Every measure of a generator on held-out outfits; what is real is decoded and described once for many generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.errors import ConfigError, InputError
from outfitgan.evaluation.metrics.arrays import Features, Scores, slices
from outfitgan.evaluation.metrics.bootstrap import (
    Interval,
    Resamples,
    geometric_mean_interval,
    mean_interval,
    resample,
)
from outfitgan.evaluation.metrics.feature_networks import EfficientNetFeatures
from outfitgan.evaluation.metrics.mask_iou import mask_iou
from outfitgan.evaluation.metrics.perceptual import efficientnet_lite0_distance, load_lpips
from outfitgan.evaluation.metrics.set_intervals import frechet_interval, kernel_interval, texture_collapse_interval
from outfitgan.evaluation.metrics.signs import border_spots, sharpness_ratio, texture_features
from outfitgan.evaluation.metrics.ssim import ssim
from outfitgan.evaluation.table import Better, Kind, Metric
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.networks.efficientnet import load_efficientnet_lite0
from outfitgan.training.batches import Batch, batch_of
from outfitgan.training.train import open_split

_CHUNK = 16
FCTS = "FCTS (a Bi-LSTM trained apart)"
_Measure = Callable[[slice, Resamples], Interval]


class Judge:
    """Held-out outfits of one data set, N of them, and what measures items that are made for them.

    Their pixels stay where they are decoded, and come a few outfits at a time: what is held of all is what was made,
    features and scores.
    """

    def __init__(
        self,
        config: Config,  # its data, model and seed say which outfits, kinds and size
        scorer: nn.Module,  # of FCTS
        count: int = 0,  # outfits at the most; 0 for all
    ) -> None:
        self._store = open_split(config, config.model.image_size, "test")
        kept = min(count, len(self._store)) if count else len(self._store)
        self.config, self.scorer = config, scorer
        self.names = self._store.names[:kept]
        self.targets = config.model.targets
        self.network = EfficientNetFeatures(load_efficientnet_lite0())

    def outfits(self, part: slice) -> Batch:
        """Return some of the outfits, as a slice of them all."""
        return batch_of(*self._store.gather(self._store.rows(range(*part.indices(len(self.names))))))

    @cached_property
    def features(self) -> Features:
        """The real items' features (T N, d), kind by kind."""
        return np.concatenate([self.network.embed(real) for real, _ in self._real()])

    @cached_property
    def textures(self) -> Features:
        """The real items' texture features (T N, 12), kind by kind."""
        return np.concatenate([texture_features(*item) for item in self._real()])

    @cached_property
    def scores(self) -> Scores:
        """The real outfits' compatibilities (N,) by the scorer."""
        return np.concatenate([score(self.scorer, self.outfits(part).images) for part in self._slices()])

    def generate(self, generator: nn.Module) -> Tensor:
        """Return the items (N, T, 3, S, S) that a generator makes of the outfits' sources and masks."""
        made = []
        for part in self._slices():
            batch = self.outfits(part)
            with torch.inference_mode():
                made.append(generator(batch.image(self.config.model.source), batch.masks_of(self.targets)))
        return torch.cat(made)

    def measure(self, made: Tensor) -> list[Metric]:
        """Return every metric of items (N, T, 3, S, S), for each kind and for all of them."""
        if len(made) != len(self.names):
            raise InputError(f"There are items of {len(made)} outfits, not of {len(self.names)}: give every outfit's.")
        columns = zip(*(self._describe(*item) for item in self._beside(made)), strict=True)
        features, woven, alike, near, inside, spots, sharp = (np.concatenate(column) for column in columns)
        name = self.network.name
        rows: list[tuple[str, Better, _Measure]] = [
            ("SSIM", "higher", _mean(alike)),
            (f"distance ({name})", "lower", _mean(near)),
            (f"FID ({name})", "lower", lambda p, r: frechet_interval(self.features[p], features[p], r)),
            (f"KID ({name})", "lower", lambda p, r: kernel_interval(self.features[p], features[p], r)),
            ("mask IoU", "higher", _mean(inside)),
            ("border spots", "lower", _mean(spots)),
            ("sharpness ratio", "near 1", lambda p, r: geometric_mean_interval(sharp[p], r)),
            (
                "texture diversity ratio",
                "near 1",
                lambda p, r: texture_collapse_interval(woven[p], self.textures[p], r),
            ),
        ]
        metrics = [
            Metric(metric, kind, of(part, draws), better)
            for metric, better, of in rows
            for kind, part, draws in self._parts()
        ]
        return [*metrics, *self._lpips(made), *self._compatibility(made)]

    def _describe(self, made: Tensor, real: Tensor, masks: Tensor) -> tuple[NDArray[Any], ...]:
        """Return everything that is one number, or one row, an item, of generated and real items (n, 3, S, S)."""
        return (
            self.network.embed(made),
            texture_features(made, masks),
            ssim(made, real),
            efficientnet_lite0_distance(made, real, self.network.network),
            mask_iou(made, masks),
            border_spots(made, masks),
            sharpness_ratio(made, real, masks),
        )

    def _real(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the real items (n, 3, S, S) and their masks (n, 1, S, S), a few at a time, kind by kind."""
        for kind in self.targets:
            for part in self._slices():
                batch = self.outfits(part)
                yield batch.image(kind), batch.mask(kind)

    def _beside(self, made: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield items made (N, T, 3, S, S) beside the real ones and the masks of `_real`."""
        parts = (items[part] for items in made.unbind(dim=1) for part in self._slices())
        for items, (real, masks) in zip(parts, self._real(), strict=True):
            yield items, real, masks

    def _slices(self) -> Iterator[slice]:
        return slices(len(self.names), _CHUNK)

    def _parts(self) -> list[tuple[Kind, slice, Resamples]]:
        count = len(self.names)
        parts: list[tuple[Kind, slice, Resamples]] = [
            (kind, slice(number * count, (number + 1) * count), resample(self.names))
            for number, kind in enumerate(self.targets)
        ]
        return [*parts, ("all", slice(None), resample(self.names * len(self.targets)))]

    def _lpips(self, made: Tensor) -> list[Metric]:
        try:
            lpips = load_lpips(self.config.losses.vgg_weights)
        except ConfigError as error:
            return [Metric("LPIPS (VGG-16)", "all", None, "lower", str(error))]
        distances = np.concatenate([lpips(items, real) for items, real, _ in self._beside(made)])
        return [Metric("LPIPS (VGG-16)", kind, mean_interval(distances[p], r), "lower") for kind, p, r in self._parts()]

    def _compatibility(self, made: Tensor) -> list[Metric]:
        """Score the outfits with the made items, and the real ones for comparison."""
        found = []
        for part in self._slices():
            batch, items = self.outfits(part), dict(zip(self.targets, made[part].unbind(dim=1), strict=True))
            dressed = [items.get(kind, batch.image(kind)) for kind in COLLOCATION_ORDER]
            found.append(score(self.scorer, torch.stack(dressed, dim=1)))
        draws, scores = resample(self.names), (np.concatenate(found), self.scores)
        named = zip((FCTS, f"{FCTS}, real outfits"), scores, strict=True)
        return [Metric(name, "all", mean_interval(values, draws), "higher") for name, values in named]


def seen_in_training(config: Config) -> list[str]:
    """Return a sentence for each measure that rests on a network which has taught the generators."""
    judged = {"efficientnet-lite0": "Distance, FID and KID see", "vgg16": "LPIPS sees"}
    losses, features = config.losses, config.model.collocation.features
    notes = []
    if losses.perceptual:
        network = losses.perceptual_network
        notes.append(
            f"{judged[network]} through {network}, as the perceptual loss does: expect praise of what it taught."
        )
    if losses.collocation and features != "trained":
        notes.append(
            f"FCTS's scorer sees through the same frozen {features} as the CCM that taught the generators: its Bi-LSTM "
            f"alone is apart. {judged[features]} through it as well."
        )
    return notes


def score(classifier: nn.Module, outfits: Tensor) -> Scores:
    """Return a classifier's compatibilities (N,), 0 to 1, of outfits (N, 4, 3, S, S)."""
    with torch.inference_mode():
        logits = torch.cat([classifier(part) for part in torch.split(outfits, _CHUNK)])
    return np.asarray(torch.sigmoid(logits.double()))


def _mean(values: Scores) -> _Measure:
    return lambda part, draws: mean_interval(values[part], draws)

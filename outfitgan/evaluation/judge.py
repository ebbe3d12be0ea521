"""Every measure of a generator on held-out outfits; what is real is decoded and described once for many generators."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from outfitgan.config import Config
from outfitgan.errors import ConfigError
from outfitgan.evaluation.metrics.arrays import Features, Scores
from outfitgan.evaluation.metrics.bootstrap import (
    Interval,
    Resamples,
    geometric_mean_interval,
    mean_interval,
    resample,
)
from outfitgan.evaluation.metrics.features import EfficientNetFeatures
from outfitgan.evaluation.metrics.masks import mask_iou
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
    """Held-out outfits of one data set, N of them, and what measures items that are made for them."""

    def __init__(
        self,
        config: Config,  # its data, model and seed say which outfits, kinds and size
        scorer: nn.Module,  # of FCTS
        count: int = 0,  # outfits at the most; 0 for all
    ) -> None:
        store = open_split(config, config.model.image_size, "test")
        kept = min(count, len(store)) if count else len(store)
        self.config, self.scorer = config, scorer
        self.names = store.names[:kept]
        self.batch: Batch = batch_of(*store.gather(store.rows(range(kept))))
        self.targets = config.model.targets
        self.network = EfficientNetFeatures(load_efficientnet_lite0())

    @cached_property
    def real(self) -> Tensor:
        """The real items (T N, 3, S, S), kind by kind."""
        return by_kind(self.batch.images_of(self.targets))

    @cached_property
    def masks(self) -> Tensor:
        """The reference masks (T N, 1, S, S), kind by kind."""
        return by_kind(self.batch.masks_of(self.targets))

    @cached_property
    def features(self) -> Features:
        """The real items' features (T N, d)."""
        return self.network.embed(self.real)

    def generate(self, generator: nn.Module) -> Tensor:
        """Return the items (N, T, 3, S, S) that a generator makes of the outfits' sources and masks."""
        sources, masks = self.batch.image(self.config.model.source), self.batch.masks_of(self.targets)
        with torch.inference_mode():
            parts = zip(torch.split(sources, _CHUNK), torch.split(masks, _CHUNK), strict=True)
            return torch.cat([generator(source, mask) for source, mask in parts])

    def measure(self, made: Tensor) -> list[Metric]:
        """Return every metric of items (N, T, 3, S, S), for each kind and for all of them."""
        flat, network = by_kind(made), self.network
        features = network.embed(flat)
        woven, cloth = texture_features(flat, self.masks), texture_features(self.real, self.masks)
        alike = ssim(flat, self.real)
        near = efficientnet_lite0_distance(flat, self.real, network.network)
        inside, spots = mask_iou(flat, self.masks), border_spots(flat, self.masks)
        sharp = sharpness_ratio(flat, self.real, self.masks)
        rows: list[tuple[str, Better, _Measure]] = [
            ("SSIM", "higher", _mean(alike)),
            (f"distance ({network.name})", "lower", _mean(near)),
            (f"FID ({network.name})", "lower", lambda p, r: frechet_interval(self.features[p], features[p], r)),
            (f"KID ({network.name})", "lower", lambda p, r: kernel_interval(self.features[p], features[p], r)),
            ("mask IoU", "higher", _mean(inside)),
            ("border spots", "lower", _mean(spots)),
            ("sharpness ratio", "near 1", lambda p, r: geometric_mean_interval(sharp[p], r)),
            ("texture diversity ratio", "near 1", lambda p, r: texture_collapse_interval(woven[p], cloth[p], r)),
        ]
        metrics = [
            Metric(name, kind, of(part, draws), better)
            for name, better, of in rows
            for kind, part, draws in self._parts()
        ]
        return [*metrics, *self._lpips(flat), *self._compatibility(made)]

    def _parts(self) -> list[tuple[Kind, slice, Resamples]]:
        count = len(self.names)
        parts: list[tuple[Kind, slice, Resamples]] = [
            (kind, slice(number * count, (number + 1) * count), resample(self.names))
            for number, kind in enumerate(self.targets)
        ]
        return [*parts, ("all", slice(None), resample(self.names * len(self.targets)))]

    def _lpips(self, flat: Tensor) -> list[Metric]:
        try:
            lpips = load_lpips(self.config.losses.vgg_weights)
        except ConfigError as error:
            return [Metric("LPIPS (VGG-16)", "all", None, "lower", str(error))]
        distances = lpips(flat, self.real)
        return [Metric("LPIPS (VGG-16)", kind, mean_interval(distances[p], r), "lower") for kind, p, r in self._parts()]

    def _compatibility(self, made: Tensor) -> list[Metric]:
        """Score the outfits with the made items, and the real ones for comparison."""
        items = dict(zip(self.targets, made.unbind(dim=1), strict=True))
        outfits = torch.stack([items.get(kind, self.batch.image(kind)) for kind in COLLOCATION_ORDER], dim=1)
        draws = resample(self.names)
        scores = score(self.scorer, outfits), score(self.scorer, self.batch.images)
        named = zip((FCTS, f"{FCTS}, real outfits"), scores, strict=True)
        return [Metric(name, "all", mean_interval(values, draws), "higher") for name, values in named]


def by_kind(items: Tensor) -> Tensor:
    """Put one kind's items after the other's: (N, T, C, S, S) -> (T N, C, S, S)."""
    return items.transpose(0, 1).flatten(0, 1)


def score(classifier: nn.Module, outfits: Tensor) -> Scores:
    """Return a classifier's compatibilities (N,), 0 to 1, of outfits (N, 4, 3, S, S)."""
    with torch.inference_mode():
        logits = torch.cat([classifier(part) for part in torch.split(outfits, _CHUNK)])
    return np.asarray(torch.sigmoid(logits.double()))


def _mean(values: Scores) -> _Measure:
    return lambda part, draws: mean_interval(values[part], draws)

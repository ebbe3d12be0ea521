"""The Collocation Classification Module (CCM): does an outfit go together?

A Bi-LSTM reads the items in a fixed order. Two heads, each a class: one logit of the whole sequence, or how likely each
item is after the ones before it and before the ones after it (Han et al. 2017).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import ModelConfig
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.networks.visual_features import features_of, in_sequence
from outfitgan.white_ground import BLANK_FROM, signed

_BANK = 256  # items of each kind that a next item is told from


class CollocationClassifier(nn.Module, ABC):
    """Embeds an outfit's items, reads them in sequence, and gives one logit.

    An item whose picture is blank, white all over, is missing: a learned embedding takes its place, and nothing is
    expected of it. Ours: each slot's embedding is standardised over the batch, which keeps what differs between outfits
    and drops what every bag shares; without it the classifier hardly leaves chance in a few hundred steps.
    """

    def __init__(
        self,
        model: ModelConfig,  # whose `collocation` says widths, features and order
    ) -> None:
        super().__init__()
        config = model.collocation
        self.input_size, self.hidden = config.input_size, config.hidden
        self.places = tuple(COLLOCATION_ORDER.index(kind) for kind in config.order)
        self.features = features_of(config)
        self.standardise = nn.BatchNorm1d(len(COLLOCATION_ORDER) * config.embedding)
        self.missing = nn.Parameter(torch.zeros(config.embedding))
        self.sequence = nn.LSTM(config.embedding, config.hidden, batch_first=True, bidirectional=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit (B,), above 0 for compatible, of images (B, 4, 3, S, S) in [-1, 1], collocation order."""
        embeddings, present = self.embed(images)
        return self.judge(embeddings, self.read(embeddings), present)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings (B, 4, E) in the sequence's order, and which items are there (B, 4) as 0 and 1."""
        ordered = in_sequence(images, self.places)  # (B, 4, 3, S, S)
        present = (ordered.amin(dim=(2, 3, 4)) < signed(BLANK_FROM)).to(ordered.dtype)  # (B, 4)
        flat = ordered.flatten(0, 1)  # (4B, 3, S, S)
        factor = images.shape[-1] // self.input_size
        small = F.avg_pool2d(flat, factor) if factor > 1 else flat  # (4B, 3, s, s)
        rows = self.features(small).reshape(images.shape[0], -1)  # (B, 4E)
        embeddings = self.standardise(rows).reshape(*present.shape, -1)  # (B, 4, E)
        there = present.unsqueeze(2)
        return embeddings * there + self.missing * (1 - there), present

    def read(self, embeddings: Tensor) -> Tensor:
        """Return the Bi-LSTM's context (B, 4, 2 hidden): forward first, then backward."""
        # Zero states are written out with the input's batch: left implicit, an export fixes the example's batch.
        state = embeddings.new_zeros(2, embeddings.shape[0], self.hidden)
        context: Tensor = self.sequence(embeddings, (state, state))[0]
        return context

    @abstractmethod
    def judge(self, embeddings: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Return a logit (B,) of embeddings (B, 4, E), context (B, 4, 2 hidden) and presence (B, 4)."""


class BinaryCollocation(CollocationClassifier):
    """Compatible or not: one logit of the mean context of the items that are there."""

    def __init__(
        self,
        model: ModelConfig,  # as for `CollocationClassifier`
    ) -> None:
        super().__init__(model)
        self.head = nn.Linear(2 * self.hidden, 1)

    def judge(self, embeddings: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Return a logit (B,); see `CollocationClassifier.judge`."""
        there = present.unsqueeze(2)  # (B, 4, 1)
        mean = (context * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)  # (B, 2 hidden)
        logits: Tensor = self.head(mean)  # (B, 1)
        return logits.squeeze(1)


class NextItemCollocation(CollocationClassifier):
    """Each item from the ones before and after it, by a softmax over items of its kind (Han et al. 2017).

    The logit is the mean log-likelihood ratio of an outfit's items to a bank of training items: 0 where the context
    tells nothing. Ours: candidates are of the item's own kind, so that the kind cannot give it away; Han's softmax is
    over every item of a batch, and its score has no bank.
    """

    bank: Tensor

    def __init__(
        self,
        model: ModelConfig,  # as for `CollocationClassifier`
    ) -> None:
        super().__init__(model)
        embedding = model.collocation.embedding
        self.onward, self.back = nn.Linear(self.hidden, embedding), nn.Linear(self.hidden, embedding)
        self.register_buffer("bank", torch.zeros(_BANK, len(COLLOCATION_ORDER), embedding))

    def judge(self, embeddings: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Return a logit (B,); see `CollocationClassifier.judge`."""
        expected, known = self.expect(context, present)  # (B, 2, 3, E), (B, 2, 3)
        actual = pairs(embeddings)  # (B, 2, 3, E)
        scale = embeddings.shape[-1] ** -0.5
        own = (expected * actual).sum(dim=3) * scale  # (B, 2, 3)
        others = torch.einsum("bdte,kdte->bdtk", expected, pairs(self.bank)) * scale  # (B, 2, 3, K)
        rivals = torch.cat([others, own.unsqueeze(3)], dim=3)  # (B, 2, 3, K + 1)
        ratio = own - torch.logsumexp(rivals, dim=3) + math.log(_BANK + 1)  # (B, 2, 3)
        logits: Tensor = (ratio * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)
        return logits

    def expect(self, context: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items expected (B, 2, 3, E), onward and backward, and whether each is there (B, 2, 3)."""
        forward, backward = context.chunk(2, dim=2)  # (B, 4, hidden) each
        expected = torch.stack([self.onward(forward[:, :-1]), self.back(backward[:, 1:])], dim=1)
        return expected, torch.stack([present[:, 1:], present[:, :-1]], dim=1)


def pairs(embeddings: Tensor) -> Tensor:
    """Return what is to be expected of (N, 4, E): (N, 2, 3, E), the next item, and the one before."""
    return torch.stack([embeddings[:, 1:], embeddings[:, :-1]], dim=1)


def build_classifier(model: ModelConfig) -> CollocationClassifier:
    """Return the classifier that a config names, with its first weights."""
    return BinaryCollocation(model) if model.collocation.head == "binary" else NextItemCollocation(model)

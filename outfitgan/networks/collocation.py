"""The Collocation Classification Module (CCM): does an outfit go together?"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from outfitgan.config import CollocationConfig, ModelConfig
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.networks.blocks import initialise


class ItemEncoder(nn.Sequential):
    """Visual features of one item: four convolutions, three of them halving the grid."""

    def __init__(self, config: CollocationConfig) -> None:
        widths = (3, config.width, 2 * config.width, 4 * config.width, config.embedding)
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(pairwise(widths)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if depth else 1, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        super().__init__(*layers)
        self.apply(initialise)


class CollocationClassifier(nn.Module):
    """A Bi-LSTM reads the items in collocation order; their mean context gives one logit.

    Ours: each slot's embedding is standardised over the batch, which keeps what differs between outfits and drops
    what every bag shares; without it the classifier hardly leaves chance in a few hundred steps.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        config = model.collocation
        self.input_size = config.input_size
        self.items = ItemEncoder(config)
        self.standardise = nn.BatchNorm1d(len(COLLOCATION_ORDER) * config.embedding)
        self.sequence = nn.LSTM(config.embedding, config.hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * config.hidden, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit (B,), above 0 for compatible, of images (B, 4, 3, S, S) in [-1, 1]."""
        batch, length = images.shape[:2]
        flat = images.flatten(0, 1) - 1  # (4B, 3, S, S); white ground is 0, as padding is
        factor = images.shape[-1] // self.input_size
        small = F.avg_pool2d(flat, factor) if factor > 1 else flat  # (4B, 3, s, s)
        embeddings = self.items(small).mean(dim=(2, 3))  # (4B, E)
        embeddings = self.standardise(embeddings.reshape(batch, -1)).reshape(batch, length, -1)  # (B, 4, E)
        # Zero states are written out with the input's batch: left implicit, an export fixes the example's batch.
        state = embeddings.new_zeros(2, batch, self.sequence.hidden_size)
        context, _ = self.sequence(embeddings, (state, state))  # (B, 4, 2 hidden)
        logits: Tensor = self.head(context.mean(dim=1))  # (B, 1)
        return logits.squeeze(1)

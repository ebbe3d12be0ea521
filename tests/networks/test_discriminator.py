"""The discriminators: patches at every scale, each kind by its own."""

from __future__ import annotations

import pytest
import torch
from network_cases import idle, outfit_photos, photos, tiny

from outfitgan.config import DiscriminatorConfig
from outfitgan.items import ItemKind, targets_of
from outfitgan.networks.discriminator import MultiScaleDiscriminator, OutfitDiscriminator


@pytest.mark.parametrize(("layers", "scales", "size"), [(2, 2, 64), (3, 2, 64), (1, 1, 32), (3, 3, 128), (4, 2, 96)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_discriminator_scores_patches_at_every_scale(layers: int, scales: int, size: int, batch: int) -> None:
    network = MultiScaleDiscriminator(DiscriminatorConfig(width=4, layers=layers, scales=scales))
    source, mask = photos(batch, size)
    scores = network(source, mask)
    sides = [size >> (scale + layers) for scale in range(scales)]
    assert [tuple(score.shape) for score in scores] == [(batch, 1, side, side) for side in sides]
    assert all(not torch.equal(a, b) for a, b in zip(scores, network(source, 1 - mask), strict=True))
    for row in range(batch):
        for alone, together in zip(network(source[row : row + 1], mask[row : row + 1]), scores, strict=True):
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_the_second_scale_sees_the_picture_at_half_size() -> None:
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(DiscriminatorConfig(width=4, layers=2, scales=2))
    source, mask = photos(1, 64)
    x = torch.cat([source - 1, mask], dim=1)
    halved = x.reshape(1, 4, 32, 2, 32, 2).mean(dim=(3, 5))
    torch.testing.assert_close(network(source, mask)[1], network.scales[1](halved))


@pytest.mark.parametrize("source_kind", ItemKind)
def test_each_kind_is_scored_by_its_own_discriminator(source_kind: ItemKind) -> None:
    torch.manual_seed(0)
    network = OutfitDiscriminator(tiny(source=source_kind))
    masks = outfit_photos(2, 64)[1]
    images = photos(6, 64)[0].reshape(2, 3, 3, 64, 64)
    scores = network(images, masks)
    assert tuple(network.items) == network.targets == targets_of(source_kind)
    for index, kind in enumerate(network.targets):
        expected = network.items[kind](images[:, index], masks[:, index])
        assert all(torch.equal(a, b) for a, b in zip(scores[index], expected, strict=True))
    alike = network(images[:, :1].expand(-1, 3, -1, -1, -1), masks[:, :1].expand(-1, 3, -1, -1, -1))
    assert not torch.equal(alike[0][0], alike[1][0])


def test_every_weight_of_a_discriminator_learns() -> None:
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(tiny().discriminator)
    scores = network(*photos(2, 64))
    assert idle(network, torch.stack([score.square().mean() for score in scores]).sum()) == []

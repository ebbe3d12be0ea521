"""The generator of twice the resolution: the generator inside sees half of it, the silhouette all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_cases import photos, tiny, trained
from torch import Tensor, nn

from outfitgan.networks.alignment import SemanticAlignment
from outfitgan.networks.high_resolution import HalvedAlignment, HighResolutionGenerator, halved


def hires(**changes: object) -> HighResolutionGenerator:
    torch.manual_seed(0)
    model = tiny(generator__architecture="hires", **changes)
    network = trained(HighResolutionGenerator(model.generator))
    nn.init.normal_(network.head.weight, std=0.3)
    return network


def by_pairs(x: Tensor) -> Tensor:
    """Return the means of squares of four pixels."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2).mean(dim=(3, 5))


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("width", [4, 8])  # the front is never narrower than four channels
def test_it_gives_a_picture_of_the_size_it_got(size: int, width: int) -> None:
    source, mask = photos(2, size)
    image = hires(image_size=size, generator__width=width)(source, mask)
    assert image.shape == source.shape
    assert image.abs().max() <= 1
    assert image.std() > 0.05


def test_the_generator_inside_sees_source_and_mask_at_half_size() -> None:
    network, (source, mask) = hires(), photos(2, 64)
    seen: dict[str, tuple[Tensor, ...]] = {}
    network.base.encoder.register_forward_pre_hook(lambda module, inputs: seen.update(encoder=inputs))
    network.base.alignment.register_forward_pre_hook(lambda module, inputs: seen.update(alignment=inputs))
    network.front.register_forward_pre_hook(lambda module, inputs: seen.update(front=inputs))
    network(source, mask)
    small, silhouette = by_pairs(source), (by_pairs(mask) >= 0.5).float()
    torch.testing.assert_close(seen["encoder"][0], torch.cat([small - 1, silhouette], dim=1))
    torch.testing.assert_close(seen["alignment"], (small, silhouette))
    torch.testing.assert_close(seen["front"][0], torch.cat([source - 1, mask], dim=1))


def test_a_halved_mask_has_the_cells_that_are_half_garment_or_more() -> None:
    squares = torch.tensor([[(number >> bit) & 1 for bit in range(4)] for number in range(16)]).float()
    mask = squares.reshape(16, 1, 2, 2)
    source, small = halved(mask.expand(-1, 3, -1, -1).half() * 2 - 1, mask.half())
    assert small.dtype == torch.float16
    assert small.flatten().tolist() == (squares.sum(dim=1) >= 2).float().tolist()
    np.testing.assert_allclose(source[:, 0].flatten().numpy(), squares.mean(dim=1).numpy() * 2 - 1)


def test_a_single_pixel_of_the_mask_shows_although_its_half_has_none() -> None:
    """Through the silhouette alone: the front is made blind to the mask, and the generator inside loses the pixel."""
    network, source = hires(), torch.ones(1, 3, 64, 64)
    with torch.no_grad():
        network.front[0].weight[:, 3] = 0
    dotted = torch.zeros(1, 1, 64, 64)
    dotted[..., 31, 20] = 1
    plain = torch.zeros_like(dotted)
    assert torch.equal(halved(source, dotted)[1], halved(source, plain)[1])
    changed = (network(source, dotted) != network(source, plain))[0].any(dim=0)
    found = torch.argwhere(changed)
    assert found.amin(dim=0).tolist() == [29, 18]  # two 3x3 convolutions around the pixel
    assert found.amax(dim=0).tolist() == [33, 22]


def test_what_the_generator_inside_paints_is_added_before_the_tanh() -> None:
    network, (source, mask) = hires(), photos(1, 64)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    coarse = torch.atanh(network.base(*halved(source, mask)).double().clamp(-1 + 1e-7, 1 - 1e-7))  # (1, 3, 32, 32)
    expected = torch.tanh(nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear")).float()
    torch.testing.assert_close(network(source, mask), expected, atol=1e-3, rtol=0)


def test_its_sam_is_the_one_inside_behind_the_halving() -> None:
    network, (source, mask) = hires(), photos(2, 64)
    module, inside = network.alignment, network.base.alignment
    assert isinstance(module, HalvedAlignment)
    assert isinstance(inside, SemanticAlignment)
    small = halved(source, mask)
    assert torch.equal(module(source, mask), inside(*small))
    assert all(torch.equal(a, b) for a, b in zip(module.match(source, mask), inside.match(*small), strict=True))
    positions = torch.tensor([[0, 63, 5], [7, 7, 40]])
    assert torch.equal(module.look(source, mask, positions), inside.look(*small, positions))
    assert not any(name.startswith("alignment") for name in network.state_dict())  # it holds no weights of its own

"""The U-Net and what is made of it: the pix2pix baselines and the mask generator."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from network_cases import idle, photos, tiny, trained
from torch import nn

from outfitgan.config import MaskGeneratorConfig, Norm
from outfitgan.networks.norms import convolution_of
from outfitgan.networks.pix2pix import MaskGenerator, Pix2PixGenerator, UNet
from outfitgan.networks.pix2pixhd import Pix2PixHdGenerator

NORMS = get_args(Norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("depth", "size"), [(1, 2), (2, 4), (2, 24), (3, 8), (3, 40), (5, 32), (5, 64), (6, 64)])
def test_a_unet_keeps_the_size_over_every_depth(depth: int, size: int, norm: Norm) -> None:
    """Down to a bottleneck of one position, where instance normalisation would leave nothing."""
    torch.manual_seed(depth)
    network, x = UNet(3, 5, 4, depth, convolution_of(norm)), photos(2, size)[0]
    y = network(x)
    assert y.shape == (2, 5, size, size)
    assert torch.isfinite(y).all()
    assert y.std() > 1e-3
    bottlenecks: list[torch.Size] = []
    network.downs[-1].register_forward_hook(lambda module, inputs, output: bottlenecks.append(output.shape[2:]))
    alone = network(x[1:])
    assert bottlenecks == [(size >> depth, size >> depth)]
    torch.testing.assert_close(alone[0], y[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_every_weight_of_a_unet_learns(depth: int) -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, 4, depth, convolution_of("channel"))
    assert idle(network, network(photos(2, 32)[0]).square().mean()) == []


def test_every_weight_of_a_unet_with_instance_norm_learns_but_biases_that_it_takes_off() -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, 4, 5, convolution_of("instance"))
    unused = idle(network, network(photos(2, 32)[0]).square().mean())
    assert [name for name in unused if not name.endswith(".0.bias")] == []


def test_widths_double_three_times() -> None:
    network = UNet(3, 1, 4, 6, convolution_of("channel"))
    assert [next(m for m in down.modules() if isinstance(m, nn.Conv2d)).out_channels for down in network.downs] == [
        4,
        8,
        16,
        32,
        32,
        32,
    ]


def test_each_level_is_joined_to_the_way_up() -> None:
    """With the bottleneck cut off, a pixel still reaches the output through every skip."""
    torch.manual_seed(0)
    network, x = trained(UNet(3, 1, 4, 4, convolution_of("channel"))), photos(1, 32)[0]
    changed = x.clone()
    changed[..., 16, 16] += 1
    network.downs[-1].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    before = (network(changed) - network(x)).abs()
    assert before[..., 16, 16] > 0
    for level in reversed(range(3)):
        network.downs[level].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        after = (network(changed) - network(x)).abs()
        assert not torch.equal(after, before)
        before = after
    assert not before.any()


@pytest.mark.parametrize(("size", "bottom"), [(32, 2), (64, 2), (128, 2), (96, 3), (40, 5), (36, 9)])
def test_the_baseline_goes_down_as_far_as_its_size_allows(size: int, bottom: int) -> None:
    torch.manual_seed(0)
    network = Pix2PixGenerator(tiny(image_size=64).generator, size)
    sides: list[int] = []
    network.network.downs[-1].register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    source, mask = photos(1, size)
    image = network(source, mask)
    assert sides == [bottom]
    assert image.shape == source.shape
    assert image.abs().max() <= 1
    assert image.std() > 0.05


def test_the_baseline_has_pix2pixs_depth_at_its_most() -> None:
    with torch.device("meta"):
        depths = {size: len(Pix2PixGenerator(tiny().generator, size).network.downs) for size in (256, 512, 1024)}
    assert depths == {256: 7, 512: 8, 1024: 8}


@pytest.mark.parametrize(("downsamples", "blocks"), [(2, 1), (3, 2)])
def test_pix2pixhd_has_a_picture_in_range(downsamples: int, blocks: int) -> None:
    torch.manual_seed(0)
    model = tiny(generator__downsamples=downsamples, generator__residual_blocks=blocks)
    network = Pix2PixHdGenerator(model.generator)
    source, mask = photos(2, 64)
    image = network(source, mask)
    assert image.shape == source.shape
    assert image.abs().max() <= 1
    assert image.std() > 0.05
    kernels = [layer.kernel_size for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels == [(7, 7), *[(3, 3)] * (2 * downsamples + 2 * blocks), (7, 7)]


@pytest.mark.parametrize(("depth", "size"), [(3, 32), (5, 32), (5, 64)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_mask_generator_gives_a_logit_a_pixel(depth: int, size: int, batch: int) -> None:
    torch.manual_seed(0)
    network = MaskGenerator(MaskGeneratorConfig(width=4, depth=depth), convolution_of("instance"))
    source, _ = photos(batch, size)
    logits = network(source)
    assert logits.shape == (batch, 1, size, size)
    assert torch.isfinite(logits).all()
    assert logits.min() < 0 < logits.max()  # no range of its own: no tanh, no sigmoid
    nn.init.constant_(network.network.ups[-1].bias, 30.0)
    assert network(source).min() > 25
    for row in range(batch):
        torch.testing.assert_close(network(source[row : row + 1])[0], network(source)[row], atol=1e-4, rtol=0)


def test_a_mask_generator_is_finite_on_flat_sources_and_tells_sources_apart() -> None:
    torch.manual_seed(0)
    network = trained(MaskGenerator(MaskGeneratorConfig(width=4, depth=5), convolution_of("instance")))
    for shade in (-1.0, 1.0):
        assert torch.isfinite(network(torch.full((1, 3, 32, 32), shade))).all()
    logits = network(photos(2, 32)[0])
    assert (logits[0] - logits[1]).abs().mean() > 1e-3


def test_a_mask_generator_starts_as_pix2pix_does() -> None:
    torch.manual_seed(0)
    network = MaskGenerator(MaskGeneratorConfig(width=16, depth=5), convolution_of("instance"))
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)

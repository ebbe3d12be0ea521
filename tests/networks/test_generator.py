"""The generator of one target kind: its picture's range, what it depends on, what FP16 and a batch may not change."""

from __future__ import annotations

import pytest
import torch
from network_cases import SHAPES, generator_of, idle, photos, tiny

from outfitgan.networks.alignment import WHITE
from outfitgan.networks.generator import Generator, sketch


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_generator_gives_a_picture_in_range(shape: str, batch: int) -> None:
    model = tiny(**SHAPES[shape])
    source, mask = photos(batch, model.image_size)
    image = generator_of(model)(source, mask)
    assert image.shape == source.shape
    assert image.dtype == torch.float32
    assert image.abs().max() <= 1
    assert image.std() > 0.05
    warped = generator_of(model).alignment(source, mask)
    assert warped.shape == (batch, model.generator.alignment.value_channels, model.alignment_grid, model.alignment_grid)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_uses_source_mask_and_alignment(shape: str) -> None:
    model = tiny(**SHAPES[shape])
    network = generator_of(model)
    source, mask = photos(2, model.image_size)
    image = network(source, mask)
    other_source, other_mask = photos(2, model.image_size, seed=1)
    assert (network(other_source, mask) - image).abs().mean() > 1e-2
    assert (network(source, other_mask) - image).abs().mean() > 1e-2
    network.alignment.register_forward_hook(lambda module, inputs, warped: torch.zeros_like(warped))
    assert (network(source, mask) - image).abs().mean() > 1e-3


@pytest.mark.parametrize("kind", ["semantic", "concatenation"])
def test_every_weight_of_a_generator_learns(kind: str) -> None:
    model = tiny(generator__downsamples=3, generator__alignment__kind=kind)
    torch.manual_seed(0)
    network = Generator(model.generator)
    assert idle(network, network(*photos(2, model.image_size)).square().mean()) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_of_a_batch_is_what_it_is_alone(shape: str) -> None:
    model = tiny(**SHAPES[shape])
    network = generator_of(model)
    source, mask = photos(3, model.image_size)
    together = network(source, mask)
    for row in range(3):
        alone = network(source[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], atol=2e-5, rtol=0)


@pytest.mark.parametrize("mask_of", [torch.zeros_like, torch.ones_like], ids=["empty", "full"])
@pytest.mark.parametrize("shade", [-1.0, 1.0])
@pytest.mark.parametrize("shape", ["as deep as the SAM", "instance norm", "concatenation"])
def test_flat_input_gives_a_finite_picture(mask_of: type, shade: float, shape: str) -> None:
    source, mask = photos(2, 64)
    network = generator_of(tiny(**SHAPES[shape]))
    image = network(torch.full_like(source, shade), mask_of(mask))
    assert torch.isfinite(image).all()
    half = network.half()(torch.full_like(source, shade).half(), mask_of(mask).half())
    torch.testing.assert_close(half.float(), image, atol=5e-2, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_in_fp16_is_near_the_one_in_fp32(shape: str) -> None:
    model = tiny(**SHAPES[shape])
    source, mask = photos(2, model.image_size)
    source = source.half().float()
    network = generator_of(model)
    expected = network(source, mask)
    found = network.half()(source.half(), mask.half())
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()
    assert (found.float() - expected).abs().max() < 5e-2
    assert (found.float() - expected).abs().mean() < 2e-3


def test_a_fresh_generator_begins_near_its_sketch() -> None:
    """Before training its picture is the warped colours inside the mask, and white outside."""
    torch.manual_seed(0)
    network = Generator(tiny().generator).eval()
    source, mask = photos(2, 64)
    with torch.inference_mode():
        image = network(source, mask)
        expected = torch.tanh(sketch(network.alignment(source, mask), mask))
    assert (image - expected).abs().mean() < 0.1
    outside = mask.expand_as(image) == 0
    torch.testing.assert_close(expected[outside], torch.full_like(expected[outside], 0.95), atol=1e-6, rtol=0)


def test_a_sketch_is_the_last_three_channels_inside_the_mask() -> None:
    warped, mask = torch.randn(1, 8, 4, 4), torch.zeros(1, 1, 16, 16)
    mask[..., 4:8, 4:16] = 1
    drawn = sketch(warped, mask)
    assert drawn.shape == (1, 3, 16, 16)
    assert (drawn[..., mask[0, 0] == 0] == WHITE).all()
    flat = sketch(torch.arange(8.0).reshape(1, 8, 1, 1).expand(1, 8, 4, 4), mask)
    for channel in range(3):
        torch.testing.assert_close(
            flat[0, channel][mask[0, 0] == 1], torch.full((48,), 5.0 + channel + WHITE), atol=1e-5, rtol=0
        )

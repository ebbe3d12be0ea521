"""uint8 NHWC outside, [-1, 1] NCHW inside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from export.boundary import (
    AlignmentGraph,
    CollocationGraph,
    GeneratorGraph,
    MaskGraph,
    OutfitGraph,
    bytes_from_image,
    bytes_from_logits,
    image_from_bytes,
    mask_from_bytes,
)
from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.items import ItemKind
from outfitgan.networks.architectures import OutfitGenerator, alignments_of, build_generator
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.pix2pix import MaskGenerator


def levels() -> Tensor:
    return torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3).contiguous()


def pair(size: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, generator=generator)
    return source, torch.randint(0, 256, (batch, size, size, 1), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_level_survives_the_way_in_and_out(dtype: torch.dtype) -> None:
    image = image_from_bytes(levels(), dtype)
    assert image.shape == (1, 3, 16, 16)
    assert image.dtype == dtype
    assert (image.min(), image.max()) == (-1, 1)
    assert torch.equal(bytes_from_image(image), levels())


def test_what_lies_outside_is_clamped_and_the_rest_rounded() -> None:
    row = torch.tensor([-7.0, -1.0, -0.9, 0.003, 1.0, 1.2, 65504.0])
    image = row.reshape(1, 1, 1, 7).expand(1, 3, 1, 7)
    assert bytes_from_image(image)[0, 0, :, 0].tolist() == [0, 0, 13, 128, 255, 255, 255]


def test_channels_stay_apart() -> None:
    image = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)
    image[0, 1, 2, 0] = 255
    inside = image_from_bytes(image, torch.float32)
    assert inside[0, 0, 1, 2] == 1
    assert (inside == 1).sum() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_mask_is_thresholded_at_128(dtype: torch.dtype) -> None:
    mask = mask_from_bytes(torch.tensor([0, 1, 127, 128, 255], dtype=torch.uint8).reshape(1, 1, 5, 1), dtype)
    assert mask.dtype == dtype
    assert mask.flatten().tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("logit", "level"), [(-30.0, 0), (-0.001, 127), (0.01, 128), (30.0, 255), (1.0, 186)])
def test_a_silhouette_is_255_times_its_probability(logit: float, level: int) -> None:
    """Garment from 128 on is a probability of a half or more, which is a logit of 0 or more."""
    found = bytes_from_logits(torch.full((2, 1, 3, 4), logit))
    assert (found.dtype, found.shape) == (torch.uint8, (2, 3, 4, 1))
    assert (found == level).all()


def test_mask_graph_is_the_mask_generator(tiny: ModelConfig, mask_generators: dict[ItemKind, MaskGenerator]) -> None:
    network = mask_generators[ItemKind.SHOES]
    source, _ = pair(tiny.image_size)
    with torch.no_grad():
        found = MaskGraph(network)(source)
        expected = network(source.permute(0, 3, 1, 2).float() / 255 * 2 - 1).sigmoid()
    assert (found.double() - expected.permute(0, 2, 3, 1).double() * 255).abs().max() < 0.501
    assert found.double().std() > 20


def test_outfit_graph_is_the_shared_generator() -> None:
    model = override(load_preset("tiny"), {"model.generator.architecture": "shared"}).model
    torch.manual_seed(6)
    network = build_generator(model).eval()
    source, mask = pair(model.image_size)
    masks = [mask, mask.flip(1), mask.flip(2)]
    with torch.no_grad():
        found = OutfitGraph(network)(source, *masks)
        inside = source.permute(0, 3, 1, 2).float() / 255 * 2 - 1
        silhouettes = torch.stack([(m.permute(0, 3, 1, 2) > 127).float() for m in masks], dim=1)
        expected = network(inside, silhouettes)
    assert len(found) == 3
    for index, image in enumerate(found):
        exact = ((expected[:, index].permute(0, 2, 3, 1) + 1) / 2 * 255).double()
        assert (image.double() - exact).abs().max() < 0.501


def test_generator_graph_is_the_generator(tiny: ModelConfig, generator: OutfitGenerator) -> None:
    network = generator.items[ItemKind.BAG]
    source, mask = pair(tiny.image_size)
    with torch.no_grad():
        found = GeneratorGraph(network)(source, mask)
        inside = source.permute(0, 3, 1, 2).float() / 255 * 2 - 1
        expected = network(inside, (mask.permute(0, 3, 1, 2) > 127).float())
    assert found.dtype == torch.uint8
    exact = ((expected.permute(0, 2, 3, 1) + 1) / 2 * 255).double()
    assert (found.double() - exact).abs().max() < 0.501


def test_alignment_graph_gives_the_cell_of_the_largest_weight(tiny: ModelConfig, generator: OutfitGenerator) -> None:
    network = alignments_of(generator)[ItemKind.SHOES]
    source, mask = pair(tiny.image_size)
    with torch.no_grad():
        warped, match, weight = AlignmentGraph(network)(source, mask)
        inside = (image_from_bytes(source, torch.float32), mask_from_bytes(mask, torch.float32))
        index = network.match(*inside)[1]
    grid = tiny.alignment_grid
    assert warped.shape == (2, tiny.generator.alignment.value_channels, grid, grid)
    assert (match.dtype, match.shape) == (torch.int32, (2, grid, grid, 2))
    assert (weight.dtype, weight.shape) == (torch.float32, (2, grid, grid))
    assert torch.equal(match[..., 0] * grid + match[..., 1], index.int())
    assert match.min() >= 0
    assert match.max() < grid


def test_collocation_graph_reads_the_collocation_order(tiny: ModelConfig, collocation: CollocationClassifier) -> None:
    images = [pair(tiny.image_size, 3)[0].roll(shift, 1) // (shift + 1) for shift in range(4)]
    with torch.no_grad():
        found = CollocationGraph(collocation)(*images)
        inside = torch.stack([image_from_bytes(image, torch.float32) for image in images], dim=1)
        expected = collocation(inside).sigmoid()
        swapped = CollocationGraph(collocation)(images[1], images[0], *images[2:])
    assert found.shape == (3, 1)
    assert torch.allclose(found[:, 0], expected)
    assert not torch.allclose(found, swapped)


def test_half_networks_keep_the_boundary(
    tiny: ModelConfig,
    generator: OutfitGenerator,
    collocation: CollocationClassifier,
    mask_generators: dict[ItemKind, MaskGenerator],
) -> None:
    network = copy.deepcopy(generator.items[ItemKind.BAG]).half()
    source, mask = pair(tiny.image_size, 1)
    with torch.no_grad():
        image = GeneratorGraph(network)(source, mask)
        warped, match, weight = AlignmentGraph(network.alignment)(source, mask)
        compatibility = CollocationGraph(copy.deepcopy(collocation).half())(*[source] * 4)
        silhouette = MaskGraph(copy.deepcopy(mask_generators[ItemKind.BAG]).half())(source)
    found = [tensor.dtype for tensor in (image, warped, match, weight, compatibility, silhouette)]
    assert found == [torch.uint8, torch.float32, torch.int32, torch.float32, torch.float32, torch.uint8]

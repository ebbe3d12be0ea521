"""Every architecture is used in the same way: one source, a mask a target, one item a target."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from network_cases import idle, outfit_photos, tiny, trained
from torch import nn

from outfitgan.config import Architecture, ModelConfig, load_preset, override, preset_names
from outfitgan.items import ItemKind, targets_of
from outfitgan.networks.architectures import OutfitGenerator, SeparateGenerators, alignments_of, build_generator
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.discriminator import OutfitDiscriminator
from outfitgan.networks.generator import Generator
from outfitgan.networks.high_resolution import HalvedAlignment, HighResolutionGenerator
from outfitgan.networks.pix2pix import Pix2PixGenerator
from outfitgan.networks.pix2pixhd import Pix2PixHdGenerator
from outfitgan.networks.shared import KindAlignment, SharedGenerator

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
ITEM_GENERATORS = {
    "outfitgan": Generator,
    "hires": HighResolutionGenerator,
    "pix2pix": Pix2PixGenerator,
    "pix2pixhd": Pix2PixHdGenerator,
}


def built(architecture: Architecture, **changes: object) -> tuple[OutfitGenerator, ModelConfig]:
    """Return a network whose answer is not lost in a faint head."""
    torch.manual_seed(0)
    model = tiny(generator__architecture=architecture, **changes)
    network = trained(build_generator(model))
    for name, module in network.named_modules():
        if name.endswith("head") and isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.3)
    return network, model


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_preset_makes_networks_that_fit_each_other(architecture: Architecture, preset: str) -> None:
    """On the meta device: shapes alone, so that even the paper's widths cost nothing."""
    model = override(load_preset(preset), {"model.generator.architecture": architecture}).model
    size = model.image_size
    with torch.device("meta"):
        source, masks = torch.empty(2, 3, size, size), torch.empty(2, 3, 1, size, size)
        made = build_generator(model)(source, masks)
        scores = OutfitDiscriminator(model)(made, masks)
        logits = build_classifier(model)(torch.cat([source.unsqueeze(1), made], dim=1))
    assert made.shape == (2, 3, 3, size, size)
    assert [len(kind) for kind in scores] == [model.discriminator.scales] * 3
    assert logits.shape == (2,)


@pytest.mark.parametrize("source_kind", ItemKind)
@pytest.mark.parametrize("architecture", ITEM_GENERATORS)
def test_separate_generators_each_make_their_own_kind(architecture: Architecture, source_kind: ItemKind) -> None:
    network, model = built(architecture, source=source_kind)
    assert isinstance(network, SeparateGenerators)
    assert network.targets == model.targets == targets_of(source_kind)
    assert {kind: type(item) for kind, item in network.items.items()} == dict.fromkeys(
        network.targets, ITEM_GENERATORS[architecture]
    )
    source, masks = outfit_photos(1, 64)
    made = network(source, masks)
    for index, kind in enumerate(network.targets):
        torch.testing.assert_close(made[:, index], network.items[kind](source, masks[:, index]))
    alike = network(source, masks[:, :1].expand(-1, 3, -1, -1, -1))
    assert (alike[:, 0] - alike[:, 1]).abs().mean() > 1e-2  # weights are not shared


@pytest.mark.parametrize("norm", ["channel", "instance"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_item_is_in_range_uses_source_and_mask_and_is_what_it_is_alone(
    architecture: Architecture, norm: str
) -> None:
    network, _ = built(architecture, generator__norm=norm)
    source, masks = outfit_photos(2, 64)
    made = network(source, masks)
    assert made.dtype == torch.float32
    assert made.abs().max() <= 1
    assert made.std() > 0.05
    other_source, other_masks = outfit_photos(2, 64, seed=1)
    assert (network(other_source, masks) - made).abs().mean() > 1e-2
    assert (network(source, other_masks) - made).abs().mean() > 1e-2
    torch.testing.assert_close(network(source[1:], masks[1:])[0], made[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["channel", "instance"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fp16_is_near_fp32_and_flat_input_is_finite(architecture: Architecture, norm: str) -> None:
    network, _ = built(architecture, generator__norm=norm)
    source, masks = outfit_photos(1, 64)
    source = source.half().float()
    expected = network(source, masks)
    half = network.half()
    found = half(source.half(), masks.half())
    assert found.dtype == torch.float16
    assert (found.float() - expected).abs().max() < 0.1
    assert (found.float() - expected).abs().mean() < 4e-3
    for shade, mask in ((-1.0, 0.0), (1.0, 1.0), (1.0, 0.0)):
        flat = half(torch.full_like(source, shade).half(), torch.full_like(masks, mask).half())
        assert torch.isfinite(flat).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_of_every_architecture_learns(architecture: Architecture) -> None:
    torch.manual_seed(0)
    network = build_generator(tiny(generator__architecture=architecture))
    assert idle(network, network(*outfit_photos(2, 64)).square().mean()) == []


@pytest.mark.parametrize("architecture", ["outfitgan", "hires", "shared"])
def test_each_kind_has_its_sam_where_there_is_one(architecture: Architecture) -> None:
    network, model = built(architecture)
    found = alignments_of(network)
    assert tuple(found) == model.targets
    source, masks = outfit_photos(1, 64)
    for index, kind in enumerate(model.targets):
        if isinstance(network, SharedGenerator):
            assert isinstance(found[kind], KindAlignment)
            assert found[kind].alignment is network.alignment
        elif architecture == "hires":
            assert isinstance(found[kind], HalvedAlignment)
            assert found[kind].alignment is network.items[kind].base.alignment
        else:
            assert found[kind] is network.items[kind].alignment
        assert found[kind](source, masks[:, index]).shape[2:] == (model.alignment_grid,) * 2


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("outfitgan", "concatenation"), ("hires", "concatenation"), ("pix2pix", "semantic"), ("pix2pixhd", "semantic")],
)
def test_where_nothing_is_matched_there_is_no_sam(architecture: Architecture, kind: str) -> None:
    network, _ = built(architecture, generator__alignment__kind=kind)
    assert alignments_of(network) == {}

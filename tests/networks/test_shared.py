"""One generator for all target kinds: the kinds are told apart, and the source is read once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import outfit_photos, tiny, trained
from torch import Tensor, nn

from outfitgan.config import ModelConfig, load_preset, override
from outfitgan.items import COLLOCATION_ORDER, ItemKind, targets_of
from outfitgan.networks.architectures import SeparateGenerators, build_generator
from outfitgan.networks.shared import SharedGenerator, kind_planes, stacked, unstacked, with_kind


def shared(**changes: object) -> tuple[SharedGenerator, ModelConfig]:
    torch.manual_seed(0)
    model = tiny(generator__architecture="shared", **changes)
    network = trained(SharedGenerator(model))
    nn.init.normal_(network.head.weight, std=0.3)
    return network, model


@pytest.mark.parametrize("downsamples", [2, 3])
@pytest.mark.parametrize("source_kind", ItemKind)
def test_it_makes_every_target_at_once(downsamples: int, source_kind: ItemKind) -> None:
    network, model = shared(source=source_kind, generator__downsamples=downsamples)
    source, masks = outfit_photos(2, 64)
    made = network(source, masks)
    assert network.targets == model.targets == targets_of(source_kind)
    assert made.shape == (2, 3, 3, 64, 64)
    assert made.abs().max() <= 1
    assert made.std() > 0.05


def test_an_item_does_not_depend_on_the_other_kinds_masks() -> None:
    network, _ = shared()
    source, masks = outfit_photos(2, 64)
    made = network(source, masks)
    for index in range(3):
        others = outfit_photos(2, 64, seed=9)[1]
        others[:, index] = masks[:, index]
        changed = network(source, others)
        torch.testing.assert_close(changed[:, index], made[:, index], atol=1e-5, rtol=0)
        assert all((changed[:, i] - made[:, i]).abs().mean() > 1e-2 for i in range(3) if i != index)


def test_an_item_depends_on_its_own_outfits_source_alone() -> None:
    network, _ = shared()
    source, masks = outfit_photos(3, 64)
    made, swapped = network(source, masks), network(source.flip(0), masks)
    torch.testing.assert_close(swapped[1], made[1], atol=1e-5, rtol=0)
    assert ((swapped - made).abs().mean(dim=(2, 3, 4))[[0, 2]] > 1e-3).all()
    for row in range(3):
        alone = network(source[row : row + 1], masks[row : row + 1])
        torch.testing.assert_close(alone[0], made[row], atol=5e-5, rtol=0)


@pytest.mark.parametrize("source_kind", ItemKind)
def test_the_stacked_correlation_is_that_of_each_kind_apart(source_kind: ItemKind) -> None:
    network, model = shared(source=source_kind)
    source, masks = outfit_photos(2, 64)
    fused: list[Tensor] = []
    network.decoder.register_forward_pre_hook(lambda module, inputs: fused.append(inputs[1]))
    network(source, masks)
    together = fused[0].reshape(2, 3, *fused[0].shape[1:])  # (B, T, Cv, g, g)
    for index, kind in enumerate(model.targets):
        alone = network.alignment_of(kind)
        torch.testing.assert_close(alone(source, masks[:, index]), together[:, index], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.match(source, masks[:, index])[0], together[:, index], atol=1e-5, rtol=0)
    assert (together[:, 0] - together[:, 1]).abs().mean() > 1e-2


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 4),
    count=st.integers(1, 4),
    channels=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_stacking_puts_targets_under_each_other_and_unstacking_takes_them_apart(
    batch: int, count: int, channels: int, grid: tuple[int, int]
) -> None:
    apart = torch.randn(batch * count, channels, *grid)
    under = stacked(apart, batch)
    assert under.shape == (batch, channels, count * grid[0], grid[1])
    for row in range(batch):
        expected = torch.cat(list(apart[row * count : (row + 1) * count]), dim=1)  # (C, Tg, g)
        assert torch.equal(under[row], expected)
    assert torch.equal(unstacked(under, count), apart)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_source_is_read_once_whatever_the_number_of_targets(batch: int) -> None:
    network, _ = shared()
    sizes: dict[str, list[int]] = {"source": [], "mask": []}
    network.alignment.source_branch.register_forward_hook(lambda m, inputs, y: sizes["source"].append(len(inputs[0])))
    network.alignment.mask_branch.register_forward_hook(lambda m, inputs, y: sizes["mask"].append(len(inputs[0])))
    network(*outfit_photos(batch, 64))
    assert sizes == {"source": [batch], "mask": [3 * batch]}


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_it_has_at_most_two_fifths_of_the_weights_of_separate_ones(preset: str) -> None:
    counts = {}
    for architecture in ("shared", "outfitgan"):
        model = override(load_preset(preset), {"model.generator.architecture": architecture}).model
        with torch.device("meta"):
            network = build_generator(model)
        counts[type(network)] = sum(weight.numel() for weight in network.parameters())
    assert counts[SharedGenerator] <= 0.4 * counts[SeparateGenerators]


def test_one_mask_makes_another_item_of_each_kind() -> None:
    network, _ = shared()
    source, masks = outfit_photos(2, 64, targets=1)
    made = network(source, masks.expand(-1, 3, -1, -1, -1))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (made[:, one] - made[:, other]).abs().mean() > 1e-2


@pytest.mark.parametrize("kind", ItemKind)
def test_the_kind_is_a_plane_of_ones_behind_the_mask(kind: ItemKind) -> None:
    mask = outfit_photos(2, 16, targets=1)[1][:, 0].half()
    planes = with_kind(mask, kind_planes(kind))
    assert planes.dtype == torch.float16
    assert torch.equal(planes[:, :1], mask)
    for position, other in enumerate(COLLOCATION_ORDER):
        assert (planes[:, 1 + position] == (1 if other == kind else 0)).all()

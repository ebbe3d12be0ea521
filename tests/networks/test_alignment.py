"""The SAM: what it matches, what it carries over, and the ablation that matches nothing."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import idle, photos, tiny, trained
from torch import Tensor, nn

from outfitgan.evaluation.correspondence_sheet import Looking
from outfitgan.networks.alignment import (
    CentredProjection,
    SemanticAlignment,
    SimpleConcatenation,
    alignment_of,
    cells,
    colour_logits,
)
from outfitgan.networks.architectures import alignments_of, build_generator
from outfitgan.networks.cues import CUES, around, presence_of, with_cues, within
from outfitgan.networks.generator import Generator


def sam(seed: int = 1, **changes: object) -> SemanticAlignment:
    torch.manual_seed(seed)
    return SemanticAlignment(tiny(**changes).generator)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), inputs=st.integers(1, 9), outputs=st.integers(1, 9), offset=st.floats(-9, 9))
def test_a_centred_projection_has_mean_zero_and_is_the_centred_convolution(
    seed: int, inputs: int, outputs: int, offset: float
) -> None:
    torch.manual_seed(seed)
    projection = CentredProjection(inputs, outputs).double()
    nn.init.normal_(projection.bias, mean=offset)
    x = torch.randn(2, inputs, 3, 4, dtype=torch.float64) + offset
    y = projection(x).detach().numpy()
    plain = np.einsum("oi,bihw->bohw", projection.weight.detach().numpy()[..., 0, 0], x.numpy())
    plain += projection.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(y, plain - plain.mean(1, keepdims=True), atol=1e-9)
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-9)


def test_the_sam_matches_as_its_weights_say() -> None:
    module = trained(sam())
    source, mask = photos(2, 64)
    warped, index, weight = module.match(source, mask)
    assert torch.equal(warped, module(source, mask))
    assert index.shape == weight.shape == (2, 16, 16)
    places = cells(index, 16)
    assert (places.shape, places.dtype) == ((2, 16, 16, 2), torch.int32)
    rows, columns = np.unravel_index(index.numpy(), (16, 16))
    assert np.array_equal(places.numpy(), np.stack([rows, columns], axis=-1))
    matched = weight > 0
    assert matched.any()
    assert weight[matched].min() >= 1 / 256 - 1e-6
    assert weight.max() <= 1 + 1e-6
    assert not index[~matched].any()
    assert not warped.transpose(0, 1)[:, ~matched].any()


@pytest.mark.parametrize("architecture", ["outfitgan", "hires", "shared"])
def test_a_look_adds_up_to_one_and_peaks_at_the_match(architecture: str) -> None:
    """Of the SAM alone, behind a halving, and told the kind."""
    model = tiny(generator__architecture=architecture)
    grid = model.alignment_grid
    torch.manual_seed(1)
    source, mask = photos(2, model.image_size)
    positions = torch.arange(grid * grid).expand(2, -1).flip(1)
    for module in alignments_of(trained(build_generator(model))).values():
        looks = cast(Looking, module).look(source, mask, positions)  # (B, P, g, g)
        assert looks.shape == (2, grid * grid, grid, grid)
        assert looks.min() >= 0
        warped, index, weight = cast(SemanticAlignment, module).match(source, mask)
        matched = (weight > 0).flatten(1).flip(1).float()  # (B, P)
        assert 0.1 < matched.mean() < 1
        torch.testing.assert_close(looks.sum(dim=(2, 3)), matched, atol=1e-5, rtol=0)
        torch.testing.assert_close(warped, module(source, mask))
        peaks, places = looks.flatten(2).max(dim=2)  # (B, P)
        assert torch.equal(places.flip(1), index.flatten(1))
        torch.testing.assert_close(peaks.flip(1), weight.flatten(1), atol=1e-5, rtol=0)
        assert len(index.unique()) > grid  # so the order of positions tells


def test_a_look_weighs_what_the_sam_carries() -> None:
    """The warped features are the source's, weighed as `look` says."""
    module = trained(sam())
    source, mask = photos(2, 64)
    looks = module.look(source, mask, torch.arange(256).expand(2, -1)).double()
    values = module.read(source).values.double()  # (B, Cv, g, g)
    expected = torch.einsum("bprc,bvrc->bvp", looks, values).reshape(2, -1, 16, 16)
    torch.testing.assert_close(module(source, mask).double(), expected, atol=1e-4, rtol=0)


def test_the_sam_tells_places_apart_where_the_mask_is_flat() -> None:
    """A full mask and a flat source hold nothing but where each cell lies; before training that is its match."""
    _, index, _ = sam().match(torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64))
    found = cells(index, 16)[0].double().numpy()
    distance = np.hypot(*np.moveaxis(found - np.moveaxis(np.indices((16, 16)), 0, -1), -1, 0))
    assert np.median(distance) <= 3  # of a side of 16; by chance it is 8


def test_the_sam_carries_the_colours_of_the_source() -> None:
    """The last three channels are colours; weights sum to one, so one shade all over stays one, in order."""
    module, mask = sam(), torch.ones(2, 1, 64, 64)
    shades = torch.stack([module(torch.full((2, 3, 64, 64), shade), mask)[:, -3:] for shade in (-1.0, -0.3, 0.2, 0.9)])
    assert torch.isfinite(shades).all()
    assert shades.std(dim=(1, 2, 3, 4)).max() < 1e-5
    assert (shades.mean(dim=(1, 2, 3, 4)).diff() > 0.1).all()


@pytest.mark.parametrize("kind", ["semantic", "concatenation"])
def test_every_weight_of_an_alignment_learns(kind: str) -> None:
    torch.manual_seed(0)
    module = alignment_of(tiny(generator__alignment__kind=kind).generator)
    assert idle(module, module(*photos(2, 64)).square().mean()) == []


@pytest.mark.parametrize("kind", ["semantic", "concatenation"])
def test_white_ground_is_nothing_to_a_fresh_alignment(kind: str) -> None:
    """As the padding of its convolutions is: white has no border, and no features."""
    torch.manual_seed(0)
    module = alignment_of(tiny(generator__alignment__kind=kind).generator)
    features: list[Tensor] = []
    module.source_branch.register_forward_hook(lambda m, inputs, y: features.append(y))
    values = module(torch.ones(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))
    assert not features[0].any()
    torch.testing.assert_close(values[:, -3:], torch.zeros(1, 3, 16, 16), atol=1e-4, rtol=0)


def garment(row: int, column: int) -> Tensor:
    """Return a source (1, 3, 64, 64) with a patterned square of 16 pixels on white, from cell (row, column)."""
    image = torch.ones(1, 3, 64, 64)
    image[:, :, 4 * row : 4 * row + 16, 4 * column : 4 * column + 16] = photos(1, 16)[0]
    return image


def test_concatenation_has_the_shapes_of_the_sam_and_no_match() -> None:
    model = tiny(generator__alignment__kind="concatenation")
    module = Generator(model.generator).alignment
    assert isinstance(module, SimpleConcatenation)
    source, mask = photos(2, 64)
    assert module(source, mask).shape == sam()(source, mask).shape == (2, 16, 16, 16)
    assert not hasattr(module, "match")
    assert not hasattr(module, "look")


def test_concatenation_warps_nothing() -> None:
    """Features lie where the source's garment lies: moved by two cells, they move by two cells."""
    torch.manual_seed(1)
    module = trained(SimpleConcatenation(tiny().generator))
    mask = torch.ones(1, 1, 64, 64)
    here, there = module(garment(6, 6), mask), module(garment(6, 8), mask)
    inside = slice(4, 12)  # the border's padding reaches four cells in
    torch.testing.assert_close(there[:, :, inside, 6:12], here[:, :, inside, 4:10], atol=1e-4, rtol=0)
    assert (there - here)[:, :, 6:10, 6:12].abs().mean() > 0.1
    untouched = torch.ones(16, 16, dtype=torch.bool)
    untouched[2:14, 2:16] = False  # four cells around either place
    assert torch.equal(here[0, :, untouched], there[0, :, untouched])
    assert torch.equal(here[:, -3:], colour_logits(garment(6, 6), 4))


def test_the_sam_does_warp() -> None:
    """Against the test above: what the mask's cells show need not lie where the source's garment lies."""
    module, mask = trained(sam()), torch.ones(1, 1, 64, 64)
    difference = (module(garment(2, 2), mask) - module(garment(10, 10), mask)).abs().amax(dim=(0, 1))
    assert difference[:2].max() > 1e-2
    assert difference[14:].max() > 1e-2
    assert difference[6:10, 6:10].max() > 1e-2


@pytest.mark.parametrize("width", [1, 5, 16])
def test_cells_are_rows_and_columns(width: int) -> None:
    index = torch.arange(3 * width).reshape(1, 3, width)
    assert np.array_equal(cells(index, width)[0].numpy(), np.moveaxis(np.indices((3, width)), 0, -1))


def test_cues_are_waves_of_a_cells_place_and_the_garment_in_it() -> None:
    x, presence = torch.randn(2, 5, 4, 7), torch.rand(2, 1, 4, 7)
    cued = with_cues(x, presence)
    assert cued.shape == (2, 5 + CUES, 4, 7)
    assert torch.equal(cued[:, :5], x)
    torch.testing.assert_close(cued[:, -1:], 2 * presence - 1)
    rows, columns = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 7), indexing="ij")
    waves = [
        wave(np.pi / 2 * octave * axis)
        for octave in (1, 2, 4, 8)
        for wave in (np.sin, np.cos)
        for axis in (rows, columns)
    ]
    np.testing.assert_allclose(cued[0, 5:-1].numpy(), np.stack(waves), atol=1e-5)
    assert torch.equal(cued[0, 5:-1], cued[1, 5:-1])


def test_ink_is_the_share_of_garment_in_a_cell() -> None:
    image = torch.ones(1, 3, 8, 8)
    image[:, :, :4, :4] = -1  # black
    image[:, 2, :4, 4:6] = 0  # yellow: one channel is enough
    image[:, :, 4:, :4] = 0.98  # a twentieth of a garment
    found = presence_of(image, 4)[0, 0]
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5], [0.1, 0.0]]), atol=1e-5, rtol=0)


def test_white_between_garment_is_no_ground_and_an_engines_rounding_is() -> None:
    presence = torch.zeros(2, 1, 7, 7)
    presence[0, 0, 1:6, 1:6] = 0.5
    presence[0, 0, 2:4, 2:5] = 0  # a white emblem
    presence[1, 0, 3, 3] = 2.5e-3  # one pixel of 4x4, one level off white
    held = presence > 0
    held[0, 0, 2:4, 2:5] = True
    noisy = presence + 1e-7
    for shown in (presence, noisy, presence.half()):
        assert torch.equal(within(shown) > 0, held)
        assert set(within(shown).unique().tolist()) == {0.0, 1.0}
        expected = torch.zeros(7, 7, dtype=torch.bool)
        expected[2:5, 2:5] = True
        assert torch.equal(around(shown)[1, 0] > 0, expected)


def test_ground_of_source_and_target_are_vectors_of_zeros() -> None:
    module = trained(sam())
    source, mask = torch.ones(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    source[..., 16:40, 20:44] = photos(1, 24)[0]
    mask[..., 24:48, 8:32] = 1
    keys, queries = module.read(source).keys, module.project_target(module.mask_branch(mask), mask)
    for vectors, rows, columns in ((keys, (4, 10), (5, 11)), (queries, (5, 13), (1, 9))):
        present = torch.zeros(16, 16, dtype=torch.bool)
        present[slice(*rows), slice(*columns)] = True
        assert torch.equal(vectors[0].norm(dim=0) > 0, present)
    assert not module(source, mask)[..., ~present].any()

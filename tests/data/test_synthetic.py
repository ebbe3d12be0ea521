"""Procedural outfits: the same for everyone, well cut, and compatible in a way the pixels show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.measure import label
from skimage.morphology import dilation, disk

from outfitgan.config import DataConfig
from outfitgan.data.drawing.fabric import Pattern, oklch
from outfitgan.data.drawing.style import Style, hue_distance
from outfitgan.data.open_outfits import open_outfits
from outfitgan.data.outfit_source import RuleBased
from outfitgan.data.synthetic import SyntheticOutfits
from outfitgan.errors import ConfigError
from outfitgan.items import COLLOCATION_ORDER, Item, ItemKind, Outfit

SIZE = 96
OUTFITS = SyntheticOutfits(40, SIZE, 0, "train")
SAMPLE = [OUTFITS[index] for index in range(len(OUTFITS))]


def same(one: Outfit, other: Outfit) -> bool:
    return all(
        np.array_equal(one.items[kind].image, other.items[kind].image)
        and np.array_equal(one.items[kind].mask, other.items[kind].mask)
        for kind in COLLOCATION_ORDER
    )


def lab_hue(colour: np.ndarray) -> float:
    _, a, b = rgb2lab(np.asarray(colour, float).reshape(1, 1, 3))[0, 0]
    return float(np.degrees(np.arctan2(b, a)))


def hues_worn(item: Item) -> np.ndarray:
    """Return the CIELAB hues of the item's clearly coloured pixels."""
    _, a, b = rgb2lab(item.image)[item.mask > 0].T
    return np.degrees(np.arctan2(b, a))[np.hypot(a, b) > 12]


def test_every_outfit_has_the_four_kinds_as_promised() -> None:
    assert len({outfit.name for outfit in SAMPLE}) == len(SAMPLE)
    for outfit in SAMPLE:
        assert tuple(outfit.items) == COLLOCATION_ORDER
        for kind, item in outfit.items.items():
            assert item.kind == kind
            assert (item.image.shape, item.image.dtype) == ((SIZE, SIZE, 3), np.uint8)
            assert (item.mask.shape, item.mask.dtype) == ((SIZE, SIZE), np.uint8)
            assert set(np.unique(item.mask)) == {0, 255}


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63),
    index=st.integers(0, 10**6),
    size=st.sampled_from([32, 64, 97]),
    other=st.integers(),
)
def test_an_outfit_depends_on_seed_split_and_index_alone(seed: int, index: int, size: int, other: int) -> None:
    first, again = SyntheticOutfits(10**6 + 1, size, seed, "train"), SyntheticOutfits(index + 1, size, seed, "train")
    again.incompatible(0, 5)
    assert same(first[index], again[index])
    assert same(first.incompatible(index, other), again.incompatible(index, other))
    assert not same(first[index], SyntheticOutfits(index + 1, size, seed, "test")[index])
    assert not same(first[index], SyntheticOutfits(index + 1, size, seed + 1, "train")[index])


def test_splits_share_no_name_and_no_outfit() -> None:
    test = SyntheticOutfits(40, SIZE, 0, "test")
    assert not {outfit.group for outfit in SAMPLE} & {test[index].group for index in range(40)}
    uppers = {outfit.items[ItemKind.UPPER].image.tobytes() for outfit in SAMPLE}
    assert len(uppers) == 40
    assert not uppers & {test[index].items[ItemKind.UPPER].image.tobytes() for index in range(40)}


def test_the_size_changes_the_resolution_not_the_cut() -> None:
    large = SyntheticOutfits(8, 2 * SIZE, 0, "train")
    for index in range(8):
        for kind in COLLOCATION_ORDER:
            shrunk = large[index].items[kind].mask.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3)) >= 128
            mask = SAMPLE[index].items[kind].mask > 0
            assert (shrunk & mask).sum() / (shrunk | mask).sum() > 0.93


def test_the_mask_is_where_the_image_is_not_white() -> None:
    for outfit in SAMPLE:
        for item in outfit.items.values():
            coloured = (item.image < 250).any(axis=2)
            assert coloured[item.mask > 0].mean() > 0.995
            near = dilation(item.mask, disk(1)) > 0
            # Only the anti-aliased tip of a corner may reach further, faintly.
            assert item.image[~near].min() > 215
            assert (item.image[~near] == 255).mean() > 0.999


def test_items_fill_the_square_but_for_a_margin() -> None:
    for outfit in SAMPLE:
        for item in outfit.items.values():
            rows, columns = np.nonzero(item.mask)
            assert min(rows.min(), columns.min()) >= 0.05 * SIZE
            assert max(rows.max(), columns.max()) < 0.95 * SIZE
            assert max(np.ptp(rows), np.ptp(columns)) > 0.8 * SIZE
            assert abs(rows.min() + rows.max() + 1 - SIZE) <= 3  # centred
            assert abs(columns.min() + columns.max() + 1 - SIZE) <= 3


def test_garments_are_in_one_piece_shoes_in_two_and_bags_have_a_handle() -> None:
    for outfit in SAMPLE:
        for kind, item in outfit.items.items():
            assert label(item.mask).max() == (2 if kind == ItemKind.SHOES else 1), (outfit.name, kind)
        bag = outfit.items[ItemKind.BAG]
        grounds = label(bag.mask == 0, connectivity=1)
        sizes = np.bincount(grounds.ravel())[1:]
        assert (sizes > 0.01 * SIZE * SIZE).sum() >= 2, outfit.name  # the outside, and inside the handle


def test_silhouettes_vary() -> None:
    for kind in COLLOCATION_ORDER:
        masks = {outfit.items[kind].mask.tobytes() for outfit in SAMPLE}
        assert len(masks) == len(SAMPLE)
        areas = [outfit.items[kind].mask.mean() / 255 for outfit in SAMPLE]
        assert np.std(areas) > 0.03


def test_items_are_shaded_like_cloth() -> None:
    style_of = OUTFITS.style
    solids = [index for index in range(len(OUTFITS)) if style_of(index).pattern == Pattern.SOLID]
    for index in solids:
        item = SAMPLE[index].items[ItemKind.LOWER]
        assert rgb2lab(item.image)[item.mask > 0][:, 0].std() > 2


def test_all_patterns_depths_and_relations_occur() -> None:
    styles = [SyntheticOutfits(300, 64, 0, "train").style(index) for index in range(300)]
    assert {style.pattern for style in styles} == set(Pattern)
    assert {style.depth for style in styles} == {0, 1, 2}
    assert len({style.relation for style in styles}) == 5
    assert len({round(style.hue / 30) % 12 for style in styles}) == 12


def test_items_wear_only_their_palette() -> None:
    for index, outfit in enumerate(SAMPLE):
        style = OUTFITS.style(index)
        known = [lab_hue(style.base), lab_hue(style.deep_base)]
        known += [lab_hue(style.accent)] if style.relation is not None else []
        for kind, item in outfit.items.items():
            if kind in (ItemKind.BAG, ItemKind.SHOES) and style.relation is None:
                continue  # mostly grey: too few coloured pixels to judge
            away = np.min([np.abs((hues_worn(item) - hue + 180) % 360 - 180) for hue in known], axis=0)
            # Checks, edges and anti-aliasing mix the two colours; the rest is on one of them.
            assert np.mean(away < 25) > 0.7, (outfit.name, kind)


def test_every_targets_colour_can_be_foretold_from_the_upper() -> None:
    """Nearest neighbours on nothing but the upper's colours must beat guessing the mean by far."""

    def colours(item: Item) -> np.ndarray:
        lab = rgb2lab(item.image)[item.mask > 0]
        return np.concatenate([np.percentile(lab, (10, 30, 50, 70, 90), axis=0).ravel(), lab.mean(axis=0)])

    source = SyntheticOutfits(350, 32, 0, "train")
    known = np.array([[colours(item) for item in source[index].items.values()] for index in range(len(source))])
    seen, wanted = known[:, 0], known[:, 1:, -3:]  # the upper is first; mean L, a, b of each target
    apart = np.linalg.norm(seen[:70, None] - seen[None, 70:], axis=2)
    guess = wanted[70:][apart.argsort(axis=1)[:, :3]].mean(axis=1)
    error = np.linalg.norm(guess - wanted[:70], axis=2).mean(axis=0)
    blind = np.linalg.norm(wanted[70:].mean(axis=0) - wanted[:70], axis=2).mean(axis=0)
    assert (error < 0.7 * blind).all(), error / blind


def test_an_incompatible_outfit_breaks_one_or_two_items_visibly() -> None:
    broken: dict[int, int] = {}
    for index, outfit in enumerate(SAMPLE):
        bad = OUTFITS.incompatible(index, seed=index)
        assert bad.group == outfit.group
        assert bad.name != outfit.name
        changed = []
        for kind in COLLOCATION_ORDER:
            good, other = outfit.items[kind], bad.items[kind]
            np.testing.assert_array_equal(good.mask, other.mask)
            if not np.array_equal(good.image, other.image):
                changed.append(kind)
                inside = good.mask > 0
                apart = deltaE_ciede2000(rgb2lab(good.image), rgb2lab(other.image))[inside].mean()
                assert apart > 7, (outfit.name, kind, apart)
        broken[len(changed)] = broken.get(len(changed), 0) + 1
    assert set(broken) == {1, 2}


def test_broken_shoes_are_of_a_far_hue() -> None:
    seen = 0
    for index, outfit in enumerate(SAMPLE):
        if OUTFITS.style(index).relation is None:
            continue
        good, bad = outfit.items[ItemKind.SHOES], OUTFITS.incompatible(index, 7).items[ItemKind.SHOES]
        if not np.array_equal(good.image, bad.image):
            seen += 1
            middles = [np.median(rgb2lab(shoe.image)[good.mask > 0], axis=0) for shoe in (good, bad)]
            assert np.linalg.norm(middles[0][1:] - middles[1][1:]) > 8
    assert seen > 3


@settings(max_examples=60, deadline=None)
@given(lightness=st.floats(0.3, 0.85), chroma=st.floats(0, 0.3), hue=st.floats(0, 360))
def test_oklch_agrees_with_cielab(lightness: float, chroma: float, hue: float) -> None:
    colour = oklch(lightness, chroma, hue)
    assert colour.min() >= 0
    assert colour.max() <= 1
    grey = oklch(lightness, 0, hue)
    assert np.ptp(grey) < 2e-3
    # CIELAB is another model of the same lightness: a grey's L* is the cube of OKLAB's, scaled.
    expected = 116 * lightness - 16
    assert rgb2lab(grey.reshape(1, 1, 3))[0, 0, 0] == pytest.approx(expected, abs=0.5)
    if chroma > 0.05:
        assert hue_distance(lab_hue(colour), hue) < 40


def test_numbers_outside_the_source_are_refused() -> None:
    for index in (-1, 40):
        with pytest.raises(IndexError):
            OUTFITS[index]
        with pytest.raises(IndexError):
            OUTFITS.incompatible(index, 0)
    assert sum(1 for _ in SyntheticOutfits(3, 32, 0, "test")) == 3  # IndexError ends a loop


def test_replacements_are_what_differs_in_an_incompatible_outfit() -> None:
    for index in range(12):
        good, bad, new = OUTFITS[index], OUTFITS.incompatible(index, 3), OUTFITS.replacements(index, 3)
        assert tuple(bad.items) == COLLOCATION_ORDER
        for kind in COLLOCATION_ORDER:
            np.testing.assert_array_equal(bad.items[kind].image, new.get(kind, good.items[kind]).image)
        assert 1 <= len(new) <= 2


def test_a_source_is_what_its_options_make_it() -> None:
    source = open_outfits(DataConfig(name="synthetic", count=3), 32, "test", seed=4)
    assert len(source) == 3
    assert source.notes == ()
    assert isinstance(source, RuleBased)
    assert same(source[2], SyntheticOutfits(9, 32, 4, "test")[2])
    with pytest.raises(ConfigError, match="no split 'dev'"):
        SyntheticOutfits(3, 32, 0, "dev")
    with pytest.raises(ConfigError, match="at least 1"):
        SyntheticOutfits(0, 32, 0, "train")


def test_a_style_without_relation_has_a_neutral_accent() -> None:
    accent = Style(hue=30, depth=0, relation=None, pattern=Pattern.SOLID, repeats=10).accent
    _, a, b = rgb2lab(np.asarray(accent, float).reshape(1, 1, 3))[0, 0]
    assert np.hypot(a, b) < 8

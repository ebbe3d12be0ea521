"""Every measure of generated items, on items whose measures are known: the real ones, noise, and swapped ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_cases import COLUMNS, KINDS, OUTFITS, Slots, small, table, values
from safetensors.torch import save_file
from torch import Tensor, nn

from outfitgan.errors import InputError
from outfitgan.evaluation.judge import FCTS, Judge, score
from outfitgan.evaluation.metrics.bootstrap import mean_interval, resample
from outfitgan.evaluation.metrics.frechet import frechet_distance
from outfitgan.evaluation.metrics.kernel_distance import kernel_distance
from outfitgan.evaluation.metrics.mask_iou import mask_iou
from outfitgan.evaluation.metrics.set_intervals import kernel_interval, texture_collapse_interval
from outfitgan.evaluation.metrics.signs import texture_collapse, texture_features
from outfitgan.evaluation.metrics.ssim import ssim
from outfitgan.evaluation.table import Metric
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.networks.vgg import Vgg16
from outfitgan.training.batches import batch_of
from outfitgan.training.train import open_split

NETWORK = "EfficientNet-Lite0"
PERFECT = {  # what real items have exactly
    "SSIM": 1.0,
    f"distance ({NETWORK})": 0.0,
    f"FID ({NETWORK})": 0.0,
    "border spots": 0.0,
    "sharpness ratio": 1.0,
    "texture diversity ratio": 1.0,
}
EACH_KIND = {*PERFECT, f"KID ({NETWORK})", "mask IoU"}
LPIPS = "LPIPS (VGG-16)"


def real_items(judge: Judge) -> Tensor:
    return judge.outfits(slice(None)).images_of(KINDS)


@pytest.fixture(scope="module")
def noise(judge: Judge) -> list[Metric]:
    draw = torch.Generator().manual_seed(0)
    return judge.measure(torch.rand(real_items(judge).shape, generator=draw) * 2 - 1)


def test_every_metric_has_a_row_for_each_kind_and_for_all(perfect: list[Metric]) -> None:
    found = table(perfect)
    assert set(found) == EACH_KIND | {LPIPS, FCTS, f"{FCTS}, real outfits"}
    assert all(tuple(found[name]) == COLUMNS for name in EACH_KIND)
    assert tuple(found[FCTS]) == tuple(found[f"{FCTS}, real outfits"]) == ("all",)
    measured = [interval for row in found.values() for interval in row.values() if interval is not None]
    assert all(interval.n == OUTFITS for interval in measured)
    assert all(math.isfinite(bound) for interval in measured for bound in (interval.low, interval.high))


def test_real_items_are_perfect(judge: Judge, perfect: list[Metric]) -> None:
    found = table(perfect)
    for name, expected in PERFECT.items():
        for kind, interval in found[name].items():
            assert interval is not None, (name, kind)
            assert [interval.low, interval.value, interval.high] == pytest.approx([expected] * 3, abs=1e-9), name
    assert all(-0.3 < value <= 0 for value in values(perfect, f"KID ({NETWORK})").values())  # unbiased: below 0
    for index, kind in enumerate(KINDS):
        expected = mask_iou(real_items(judge)[:, index], judge.outfits(slice(None)).mask(kind)).mean()
        assert expected > 0.8
        assert values(perfect, "mask IoU")[kind] == pytest.approx(expected)


def test_noise_is_worse_in_everything(perfect: list[Metric], noise: list[Metric]) -> None:
    for one, other in zip(perfect, noise, strict=True):
        assert (one.name, one.kind, one.better) == (other.name, other.kind, other.better)
        if one.name not in EACH_KIND or one.interval is None or other.interval is None:
            continue
        if one.name == "sharpness ratio":  # noise is sharper than what is real: above 1
            assert other.interval.low > 2
        elif one.better == "near 1":
            assert abs(other.interval.value - 1) > abs(one.interval.value - 1) + 0.2
        elif one.better == "higher":
            assert other.interval.value < one.interval.value - 0.2
        else:
            assert other.interval.value > one.interval.value + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_column_of_a_worse_kind_is_worse(judge: Judge, perfect: list[Metric], kind: ItemKind) -> None:
    made = real_items(judge).clone()
    made[:, KINDS.index(kind)] = made[:, KINDS.index(kind)].mean(dim=(2, 3), keepdim=True)
    before, after = table(perfect), table(judge.measure(made))
    for name in EACH_KIND:
        for column in COLUMNS:
            assert (before[name][column] != after[name][column]) == (column in (kind, "all")), (name, column)


def test_swapped_kinds_are_swapped_columns(judge: Judge, perfect: list[Metric]) -> None:
    bag, shoes = KINDS.index(ItemKind.BAG), KINDS.index(ItemKind.SHOES)
    made = real_items(judge).clone()
    made[:, [bag, shoes]] = made[:, [shoes, bag]]
    swapped = judge.measure(made)
    before, after = table(perfect), table(swapped)
    for name in EACH_KIND - {"border spots"}:
        assert before[name][ItemKind.LOWER] == after[name][ItemKind.LOWER]
        assert before[name][ItemKind.BAG] != after[name][ItemKind.BAG]
        assert before[name][ItemKind.SHOES] != after[name][ItemKind.SHOES]
    for name in (f"FID ({NETWORK})", f"KID ({NETWORK})", "SSIM"):  # the same both ways
        assert values(swapped, name)[ItemKind.BAG] == pytest.approx(values(swapped, name)[ItemKind.SHOES])


def test_a_column_is_the_metric_of_its_kinds_items(judge: Judge) -> None:
    """By the metrics' own functions over the items of one kind, and over all of them."""
    draw = torch.Generator().manual_seed(1)
    real = real_items(judge)
    weights = torch.tensor([0.1, 0.3, 0.6]).view(1, 3, 1, 1, 1)  # another noise for each kind
    made = (real + weights * torch.randn(real.shape, generator=draw)).clamp(-1, 1)
    found = judge.measure(made)
    masks = judge.outfits(slice(None)).masks_of(KINDS)
    parts = [(kind, [x[:, index] for x in (made, real, masks)]) for index, kind in enumerate(KINDS)]
    parts.append(("all", [torch.cat(list(x.unbind(dim=1))) for x in (made, real, masks)]))
    for column, (fake, true, mask) in parts:
        features = judge.network.embed(fake), judge.network.embed(true)
        textures = texture_features(fake, mask), texture_features(true, mask)
        expected = {
            "SSIM": ssim(fake, true).mean(),
            f"FID ({NETWORK})": frechet_distance(features[1], features[0]),
            f"KID ({NETWORK})": kernel_distance(features[1], features[0]),
            "mask IoU": mask_iou(fake, mask).mean(),
            "texture diversity ratio": texture_collapse(*textures),
        }
        for name, value in expected.items():
            assert values(found, name)[column] == pytest.approx(value, rel=1e-3, abs=1e-4), (name, column)
    ssims = values(found, "SSIM")
    assert ssims[ItemKind.BAG] > ssims[ItemKind.LOWER] > ssims[ItemKind.SHOES]


def test_fcts_is_the_scorers_mean_over_whole_outfits(judge: Judge, noise: list[Metric]) -> None:
    """The source stays real; the made items stand in their kinds' places."""
    draw = torch.Generator().manual_seed(0)
    made = torch.rand(real_items(judge).shape, generator=draw) * 2 - 1
    levels = judge.outfits(slice(None)).images.double().mean(dim=(2, 3, 4)).numpy()  # (N, 4)
    weights = np.array([3.0, -2.0, 1.0, 0.5])
    expected_real = (1 / (1 + np.exp(-levels @ weights))).mean()
    for index, kind in enumerate(KINDS):
        levels[:, COLLOCATION_ORDER.index(kind)] = made[:, index].double().mean(dim=(1, 2, 3)).numpy()
    assert values(noise, FCTS) == {"all": pytest.approx((1 / (1 + np.exp(-levels @ weights))).mean(), abs=1e-6)}
    assert values(noise, f"{FCTS}, real outfits") == {"all": pytest.approx(expected_real, abs=1e-6)}


def test_fcts_of_real_items_is_that_of_real_outfits(perfect: list[Metric]) -> None:
    assert values(perfect, FCTS) == pytest.approx(values(perfect, f"{FCTS}, real outfits"), abs=1e-6)


def test_lpips_is_a_row_that_says_what_is_missing(perfect: list[Metric]) -> None:
    (row,) = [metric for metric in perfect if metric.name == LPIPS]
    assert (row.kind, row.interval) == ("all", None)
    assert row.note == "LPIPS needs VGG-16's published weights: set losses.vgg_weights to their file."


def test_lpips_has_its_rows_where_the_weights_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(Vgg16().state_dict(), tmp_path / "vgg16.safetensors")
    judge = Judge(small(losses__vgg_weights=str(tmp_path / "vgg16.safetensors")), Slots(), count=2)
    made = real_items(judge).clone()
    made[:, 0] = 0
    found = values(judge.measure(made), LPIPS)
    assert tuple(found) == COLUMNS
    assert found[ItemKind.LOWER] == found[ItemKind.SHOES] == 0 < found["all"] < found[ItemKind.BAG]


@pytest.mark.parametrize(("count", "kept"), [(0, OUTFITS), (3, 3), (99, OUTFITS)])
def test_so_many_held_out_outfits_are_judged(count: int, kept: int) -> None:
    judge, store = Judge(small(), Slots(), count), open_split(small(), 32, "test")
    assert len(store) == OUTFITS
    assert judge.names == store.names[:kept]
    expected = batch_of(*store.gather(store.rows(range(kept))))
    found = judge.outfits(slice(None))
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.masks, expected.masks)
    assert torch.equal(judge.outfits(slice(1, 99)).images, expected.images[1:])
    with pytest.raises(InputError, match=f"not of {kept}: give every outfit's"):
        judge.measure(torch.zeros(kept + 1, 3, 3, 32, 32))


def test_more_outfits_than_are_measured_at_a_time_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are worse outfit by outfit and kind by kind; the plain functions over all of them at once say the same."""
    monkeypatch.setattr("outfitgan.evaluation.judge._CHUNK", 4)
    judge = Judge(small(data__count=11), Slots())
    real, masks = real_items(judge), judge.outfits(slice(None)).masks_of(KINDS)
    worse = torch.linspace(0, 1, real.shape[0] * len(KINDS)).view(-1, len(KINDS), 1, 1, 1)
    made = (real + worse * torch.randn(real.shape, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)
    found = judge.measure(made)
    flat = [x.transpose(0, 1).flatten(0, 1) for x in (made, real, masks)]
    features, owners = [judge.network.embed(x) for x in flat[:2]], list(judge.names) * len(KINDS)
    expected = {
        "SSIM": mean_interval(ssim(*flat[:2]), resample(owners)),
        "mask IoU": mean_interval(mask_iou(flat[0], flat[2]), resample(owners)),
        f"KID ({NETWORK})": kernel_interval(features[1], features[0], resample(owners)),
        "texture diversity ratio": texture_collapse_interval(
            texture_features(flat[0], flat[2]), texture_features(flat[1], flat[2]), resample(owners)
        ),
    }
    for name, interval in expected.items():
        again = table(found)[name]["all"]
        assert again is not None
        assert (again.value, again.low, again.high) == pytest.approx(
            (interval.value, interval.low, interval.high), rel=1e-4
        )


def test_one_outfit_is_too_few_to_measure() -> None:
    judge = Judge(small(), Slots(), count=1)
    with pytest.raises(InputError, match="at least 2"):
        judge.measure(real_items(judge))


class Mixture(nn.Module):
    """Adds each mask to the source, and remembers how much it got at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, source: Tensor, masks: Tensor) -> Tensor:
        """Return (B, T, 3, S, S)."""
        assert torch.is_inference_mode_enabled()
        self.sizes.append(len(source))
        return source.unsqueeze(1) / 2 + masks / 3


@pytest.mark.parametrize("source", [ItemKind.UPPER, ItemKind.LOWER])
def test_items_are_made_of_sources_and_their_own_masks_a_few_at_a_time(source: ItemKind) -> None:
    judge, generator = Judge(small(data__count=19, model__source=str(source)), Slots()), Mixture()
    made = judge.generate(generator)
    assert sum(generator.sizes) == 19
    assert max(generator.sizes) <= 16
    assert made.shape == (19, 3, 3, 32, 32)
    for index, kind in enumerate(kind for kind in COLLOCATION_ORDER if kind != source):
        assert torch.equal(
            made[:, index], judge.outfits(slice(None)).image(source) / 2 + judge.outfits(slice(None)).mask(kind) / 3
        )


def test_scores_are_between_0_and_1_whatever_the_logit() -> None:
    class Given(nn.Module):
        def forward(self, outfits: Tensor) -> Tensor:
            return outfits[:, 0, 0, 0, 0]

    logits = torch.tensor([-1e4, -2.0, 0.0, 2.0, 1e4]).repeat(7)  # several parts
    found = score(Given(), logits.view(-1, 1, 1, 1, 1).expand(-1, 4, 3, 2, 2))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.tile([0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1], 7), atol=1e-12)

"""Training of the CCM with either head: what a step teaches, what is hidden, what stays frozen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_cases import batches_of, small, snapshot, store_of, unchanged

from outfitgan.config import Config
from outfitgan.data.augmentation import Draws
from outfitgan.errors import ConfigError
from outfitgan.networks.collocation import BinaryCollocation, NextItemCollocation
from outfitgan.networks.visual_features import FrozenFeatures
from outfitgan.training.batches import batch_of
from outfitgan.training.collocation_trainer import BinaryObjective, CollocationTrainer, NextItemObjective, hide
from outfitgan.training.device import accelerator_for


def trainer_of(config: Config) -> CollocationTrainer:
    return CollocationTrainer(config, batches_of(config), accelerator_for(config.training))


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 1.9 - 1


@pytest.mark.parametrize("head", ["binary", "next-item"])
def test_the_ccm_learns_the_rule_of_a_few_outfits(head: str) -> None:
    config = small(model__collocation__head=head, training__collocation_rate=3e-3, model__collocation__missing=0)
    trainer = trainer_of(config)
    losses = [trainer.step(step)["loss"] for step in range(1, 61)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    store, classifier = store_of(config), trainer.classifier.eval()
    with torch.inference_mode():
        real = classifier(batch_of(*store.gather(store.rows(range(10)))).images)
        broken = classifier(batch_of(*store.gather(np.stack([store.negative_rows(i, 1) for i in range(10)]))).images)
    assert (real[:, None] > broken).float().mean() > 0.8


def test_binary_loss_is_the_cross_entropy_of_both_halves() -> None:
    torch.manual_seed(0)
    objective = BinaryObjective(BinaryCollocation(small().model))
    images = pictures(8)
    loss, accuracy = objective(images)
    logits = objective.classifier(images).detach().double().numpy()  # in training mode the statistics are the batch's
    signs = np.where(np.arange(8) < 4, 1, -1)
    assert loss.item() == pytest.approx(np.logaddexp(0, -signs * logits).mean(), rel=1e-5)
    assert accuracy.item() == pytest.approx(((logits > 0) == (signs > 0)).mean())


def test_next_item_loss_is_hans_softmax_within_the_kind() -> None:
    torch.manual_seed(0)
    classifier = NextItemCollocation(small().model)
    images = pictures(8)
    images[1, 2] = 1  # one item is missing
    loss, _ = NextItemObjective(classifier)(images)
    with torch.no_grad():
        embeddings, present = classifier.embed(images)
        context = classifier.read(embeddings)
        hidden = classifier.hidden
    entropies = []
    scale = embeddings.shape[-1] ** -0.5
    for row in range(4):
        for place in range(3):
            for ahead in (True, False):
                here, goal = (place, place + 1) if ahead else (place + 1, place)
                head = classifier.onward if ahead else classifier.back
                half = context[row, here, :hidden] if ahead else context[row, here, hidden:]
                if not present[row, goal]:
                    continue
                rivals = [k for k in range(4) if present[k, goal]]
                scores = [(head(half) @ embeddings[k, goal]).item() * scale for k in rivals]
                entropies.append(float(np.logaddexp.reduce(scores)) - scores[rivals.index(row)])
    assert len(entropies) == 4 * 6 - 2
    assert loss.item() == pytest.approx(np.mean(entropies), rel=1e-4)


def test_the_bank_holds_the_latest_outfits() -> None:
    config = small(model__collocation__head="next-item")
    trainer = trainer_of(config)
    classifier = trainer.classifier
    assert isinstance(classifier, NextItemCollocation)
    trainer.step(1)
    first = classifier.bank.clone()
    trainer.step(2)
    assert first[: trainer.half].any()
    assert not first[trainer.half :].any()
    assert torch.equal(classifier.bank[trainer.half : 2 * trainer.half], first[: trainer.half])
    assert trainer.state()["collocation.bank"].shape == classifier.bank.shape


def draws(seed: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    replaced=st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_hiding_blanks_alike_and_leaves_two_of_which_one_tells(
    replaced: list[list[bool]], share: float, seed: int
) -> None:
    half, images = len(replaced), pictures(2 * len(replaced))
    hidden = hide(images, torch.tensor(replaced), share, draws(seed))
    blank = (hidden == 1).all(dim=4).all(dim=3).all(dim=2)  # (2B, 4)
    assert torch.equal(blank[:half], blank[half:])
    assert (blank.sum(dim=1) <= 2).all()
    assert (torch.tensor(replaced) & ~blank[:half]).any(dim=1).all()
    assert torch.equal(hidden[~blank], images[~blank])


def test_hiding_takes_about_its_share_of_every_slot() -> None:
    images, replaced = torch.zeros(4000, 4, 1, 1, 1), torch.ones(2000, 4, dtype=torch.bool)
    blank = hide(images, replaced, 0.1, draws(0)).flatten(1)
    assert blank.mean(dim=0).tolist() == pytest.approx([0.1] * 4, abs=0.015)
    assert torch.equal(hide(images, replaced, 0.0, draws(0)), images)
    replaced[:, 1:] = False  # the first is all that tells the two apart
    blank = hide(images, replaced, 0.1, draws(0)).flatten(1)
    assert blank.mean(dim=0).tolist() == pytest.approx([0, 0.1, 0.1, 0.1], abs=0.015)


@pytest.mark.parametrize("missing", [0.1, 0.5])
def test_no_outfit_is_shown_as_its_own_negative(monkeypatch: pytest.MonkeyPatch, missing: float) -> None:
    """Over some epochs, of what the classifier is given."""
    trainer = trainer_of(small(model__collocation__missing=missing, training__collocation_batch=20))
    seen: list[Tensor] = []
    monkeypatch.setattr(trainer, "objective", Recording(trainer.objective, seen))
    for step in range(1, 13):
        trainer.step(step)
    assert sum((images == 1).all(dim=(2, 3, 4)).any().item() for images in seen) > 6  # some items are hidden
    for images in seen:
        real, broken = images.chunk(2)
        assert (real != broken).any(dim=(1, 2, 3, 4)).all()


class Recording(nn.Module):
    """An objective that keeps what it is given."""

    def __init__(self, objective: nn.Module, seen: list[Tensor]) -> None:
        super().__init__()
        self.objective, self.seen = objective, seen

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(images)
        found: tuple[Tensor, Tensor] = self.objective(images)
        return found


def test_published_features_stay_frozen_and_their_projection_learns() -> None:
    config = small(model__collocation__features="efficientnet-lite0", training__collocation_batch=4)
    trainer = trainer_of(config)
    features = trainer.classifier.features
    assert isinstance(features, FrozenFeatures)
    network, projection = snapshot(features.network), snapshot(features.projection)
    for step in (1, 2):
        assert math.isfinite(trainer.step(step)["loss"])
    assert unchanged(features.network, network)
    assert not unchanged(features.projection, projection)
    assert isinstance(features.projection, nn.Linear)
    assert not any(name.startswith("optimizer") and "_conv" in name for name in trainer.state())


def test_weights_that_are_not_at_hand_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"VGG-16 weights .* cannot be loaded"):
        trainer_of(small(model__collocation__features="vgg16"))


def test_a_resumed_ccm_continues_to_the_bit() -> None:
    config = small(model__collocation__head="next-item")
    straight, other = trainer_of(config), trainer_of(config)
    for step in (1, 2, 3):
        straight.step(step)
    other.restore({name: tensor.clone() for name, tensor in straight.state().items()})
    assert straight.step(4) == other.step(4)
    assert all(torch.equal(tensor, other.state()[name]) for name, tensor in straight.state().items())


def test_missing_items_change_the_judgement_but_not_its_neighbours() -> None:
    torch.manual_seed(0)
    for classifier in (BinaryCollocation(small().model).eval(), NextItemCollocation(small().model).eval()):
        with torch.no_grad():
            if isinstance(classifier, NextItemCollocation):
                classifier.bank.normal_()
            images = pictures(3)
            whole = classifier(images)
            images[1, 3] = 1
            lacking = classifier(images)
        assert torch.allclose(whole[[0, 2]], lacking[[0, 2]], atol=1e-6)
        assert not torch.allclose(whole[1], lacking[1], atol=1e-6)
        images[1] = 1  # nothing at all
        assert torch.isfinite(classifier(images)).all()


def test_the_next_item_logit_is_the_mean_log_likelihood_ratio() -> None:
    torch.manual_seed(0)
    classifier = NextItemCollocation(small().model).eval()
    with torch.no_grad():
        classifier.bank.normal_()
        images = pictures(2)
        embeddings, _ = classifier.embed(images)
        context = classifier.read(embeddings)
        logits = classifier(images)
    size, scale = len(classifier.bank), embeddings.shape[-1] ** -0.5
    for row in range(2):
        ratios = []
        for place in range(3):
            onward = classifier.onward(context[row, place, : classifier.hidden])
            back = classifier.back(context[row, place + 1, classifier.hidden :])
            for expected, goal in ((onward, place + 1), (back, place)):
                candidates = torch.cat([embeddings[row, goal][None], classifier.bank[:, goal]])
                ratios.append(F.log_softmax(candidates @ expected * scale, dim=0)[0].item() + math.log(size + 1))
        assert logits[row].item() == pytest.approx(np.mean(ratios), rel=1e-4, abs=1e-5)

"""Training of the generators: what each half step moves, what the losses are, and what parts of a batch change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from training_cases import CONFIG, TARGETS, outfit_trainer, small, snapshot, unchanged

from outfitgan.errors import ConfigError
from outfitgan.items import ItemKind
from outfitgan.networks.vgg import Vgg16
from outfitgan.training.train import perceptual_features


@pytest.mark.parametrize("architecture", ["outfitgan", "shared"])
def test_the_ccm_is_frozen_yet_teaches_every_weight(architecture: str) -> None:
    weights = {"losses__adversarial": 0, "losses__l1": 0, "losses__collocation": 1}
    trainer = outfit_trainer(small(**weights, model__generator__architecture=architecture))
    ccm = snapshot(trainer.classifier)
    batch = trainer.batches.real(1, 2)
    for step in range(1, 4):
        trainer.backward_g([batch])
        assert unchanged(trainer.classifier, ccm), step  # its running statistics too
    assert all(parameter.grad is None for parameter in trainer.classifier.parameters())
    strengths = [p.grad.abs().max().item() for p in trainer.generator.parameters() if p.grad is not None]
    assert len(strengths) == len(list(trainer.generator.parameters()))
    assert min(strengths) > 0


@pytest.mark.parametrize("term", ["adversarial", "l1", "collocation"])
def test_a_weight_of_zero_silences_its_term_and_no_other(term: str) -> None:
    silent = {"losses__adversarial": 0, "losses__l1": 0, "losses__collocation": 0}
    for weights, moves in ((silent, False), (silent | {f"losses__{term}": 1}, True)):
        trainer = outfit_trainer(small(**weights))
        trainer.backward_g([trainer.batches.real(1, 2)])
        moved = any(p.grad is not None and p.grad.any() for p in trainer.generator.parameters())
        assert moved is moves


def test_each_half_step_trains_its_own_side() -> None:
    trainer = outfit_trainer(CONFIG)
    batch = trainer.batches.real(1, 2)
    generator, discriminator = snapshot(trainer.generator), snapshot(trainer.discriminator)
    made = trainer.generate(batch)
    trainer.backward_d([batch], made)
    assert unchanged(trainer.generator, generator)
    assert all(parameter.grad is None for parameter in trainer.generator.parameters())
    assert not unchanged(trainer.discriminator, discriminator)

    discriminator = snapshot(trainer.discriminator)
    gradients = [None if p.grad is None else p.grad.clone() for p in trainer.discriminator.parameters()]
    trainer.backward_g([batch], made)
    assert unchanged(trainer.discriminator, discriminator)
    for parameter, gradient in zip(trainer.discriminator.parameters(), gradients, strict=True):
        assert parameter.requires_grad
        assert parameter.grad is not None
        assert gradient is not None
        assert torch.equal(parameter.grad, gradient)
    assert not unchanged(trainer.generator, generator)


def test_the_losses_of_a_step_are_those_of_the_definition() -> None:
    torch.manual_seed(3)
    network = Vgg16()
    trainer = outfit_trainer(CONFIG)
    trainer.features = network
    batch = trainer.batches.real(1, 2)
    scores = {kind: trainer.discriminator.items[kind] for kind in TARGETS}

    def made_scores(made: Tensor) -> list[list[Tensor]]:
        return [scores[kind](made[:, index], batch.mask(kind)) for index, kind in enumerate(TARGETS)]

    def square(maps: list[list[Tensor]], goal: float) -> float:
        return float(np.mean([[np.mean((m.double().numpy() - goal) ** 2) for m in scales] for scales in maps]))

    with torch.no_grad():
        made = trainer.generate(batch)
        real = [scores[kind](batch.image(kind), batch.mask(kind)) for kind in TARGETS]
        expected = (square(real, 1) + square(made_scores(made), 0)) / 2
        outfit = torch.stack([batch.image(ItemKind.UPPER), *made.unbind(dim=1)], dim=1)
        logits = trainer.classifier(outfit).double().numpy()
    assert trainer.backward_d([batch])["d"].item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        adversarial = square(made_scores(made), 1)
        taps = zip(network(made.flatten(0, 1)), network(batch.images_of(TARGETS).flatten(0, 1)), strict=True)
        weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)
        features = sum(weight * (a - b).abs().mean().item() for weight, (a, b) in zip(weights, taps, strict=True))
    found = trainer.backward_g([batch])
    distances = [(made[:, i] - batch.image(kind)).double().abs().mean().item() for i, kind in enumerate(TARGETS)]
    assert found["l1"].item() == pytest.approx(np.mean(distances), rel=1e-5)
    assert found["adversarial"].item() == pytest.approx(adversarial, rel=1e-5)
    assert found["collocation"].item() == pytest.approx(np.mean(np.logaddexp(0, -logits)), rel=1e-5)
    assert found["perceptual"].item() == pytest.approx(features, rel=1e-4)


def test_one_batch_can_be_learned_by_heart() -> None:
    config = small(data__count=1, training__rate=4e-3)
    trainer = outfit_trainer(config)
    losses = [trainer.step(step)["l1"] for step in range(1, 31)]
    assert min(losses[-5:]) < 0.6 * losses[0]
    assert np.mean(losses[-8:]) < np.mean(losses[8:16]) < np.mean(losses[:5])


def test_the_smallest_discriminator_grid_that_is_allowed_works() -> None:
    config = small(model__discriminator__layers=2, model__discriminator__scales=4)
    trainer = outfit_trainer(config)
    assert all(math.isfinite(loss) for loss in trainer.step(1).values())
    with pytest.raises(ConfigError, match="too small for the 6 halvings"):
        small(model__discriminator__layers=2, model__discriminator__scales=5)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_trains_as_the_whole_does(parts: int) -> None:
    whole = outfit_trainer(small(training__batch=4))
    divided = outfit_trainer(small(training__batch=4, training__accumulation=parts))
    for step in (1, 2):
        losses, others = whole.step(step), divided.step(step)
        assert losses == pytest.approx(others, rel=1e-3)
    for network in ("generator", "discriminator"):
        pairs = zip(getattr(whole, network).parameters(), getattr(divided, network).parameters(), strict=True)
        # Adam's first steps are a whole rate long whatever the gradient: one near zero may turn its sign.
        apart = torch.cat([(a - b).abs().flatten() for a, b in pairs])
        assert apart.mean() < 0.05 * whole.config.training.rate
    with pytest.raises(ConfigError, match=r"training\.batch 2 does not divide into 1 processes of 4 parts"):
        outfit_trainer(small(training__batch=2, training__accumulation=4))


def test_the_average_follows_the_weights() -> None:
    trainer = outfit_trainer(small(training__ema=0.5, training__rate=1e-2))
    history = []
    for step in range(1, 13):
        trainer.step(step)
        history.append(snapshot(trainer.generator))
    expected = {name: tensor.double() for name, tensor in history[0].items()}
    for count, weights in enumerate(history[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = {name: decay * mean + (1 - decay) * weights[name].double() for name, mean in expected.items()}
    for name, tensor in trainer.averaged.module.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=0, atol=1e-6)
    assert not unchanged(trainer.averaged.module, history[-1])


def test_the_rate_falls_to_zero_over_the_second_half() -> None:
    trainer = outfit_trainer(small(training__schedule="linear", training__steps=8, training__rate=1e-3))
    rates = []
    for step in range(1, 9):
        trainer.step(step)
        rates.append([group["lr"] for o in (trainer.optimizer_g, trainer.optimizer_d) for group in o.param_groups])
    expected = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert rates == [pytest.approx([1e-3 * share] * 2) for share in expected]


def test_bf16_trains_near_fp32_and_keeps_fp32_weights() -> None:
    plain, mixed = outfit_trainer(CONFIG), outfit_trainer(small(training__mixed_precision="bf16"))
    losses, others = plain.step(1), mixed.step(1)
    assert losses == pytest.approx(others, rel=0.1)
    assert losses != others
    assert {parameter.dtype for parameter in mixed.generator.parameters()} == {torch.float32}
    outfit_trainer(CONFIG).step(1)  # the next training is in its own precision again


@pytest.mark.parametrize("architecture", ["shared", "pix2pix", "pix2pixhd", "hires"])
@pytest.mark.parametrize("alignment", ["semantic", "concatenation"])
def test_every_architecture_trains(architecture: str, alignment: str) -> None:
    names = {"model__generator__architecture": architecture, "model__generator__alignment__kind": alignment}
    if architecture == "shared" and alignment == "concatenation":
        with pytest.raises(ConfigError, match="shared"):
            small(**names)
        return
    trainer = outfit_trainer(small(**names, training__rate=2e-3, data__count=2))
    losses = [trainer.step(step)["l1"] for step in range(1, 21)]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_the_perceptual_network_is_the_one_that_is_named() -> None:
    assert perceptual_features(CONFIG) is None
    with pytest.raises(ConfigError, match="VGG-16 weights"):
        perceptual_features(small(losses__perceptual=1.0))
    named = perceptual_features(small(losses__perceptual=1.0, losses__perceptual_network="efficientnet-lite0"))
    assert type(named).__name__ == "EfficientNetLite0"
    trainer = outfit_trainer(small(model__image_size=64))
    trainer.features = named
    losses = trainer.step(1)
    assert losses["perceptual"] > 0
    assert math.isfinite(losses["perceptual"])

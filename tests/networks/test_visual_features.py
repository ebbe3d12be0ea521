"""The CCM's visual features: trained with it, or a published network that stays as it is."""

from __future__ import annotations

import pytest
import torch
from network_cases import outfits, tiny
from torch import Tensor

from outfitgan.config import VisualFeatures
from outfitgan.errors import ConfigError
from outfitgan.networks.collocation import build_classifier
from outfitgan.networks.efficientnet import EfficientNetLite0, load_efficientnet_lite0
from outfitgan.networks.initialisation import he
from outfitgan.networks.vgg import Vgg16
from outfitgan.networks.visual_features import FrozenFeatures, TrainedFeatures, features_of, in_sequence, load_published

PUBLISHED: tuple[VisualFeatures, ...] = ("efficientnet-lite0", "vgg16")


def of_kind(name: VisualFeatures, seed: int = 0) -> TrainedFeatures | FrozenFeatures:
    """Return features that tell pictures apart: torch's own first weights of so deep a network would not."""
    torch.manual_seed(seed)
    features = features_of(tiny(collocation__features=name).collocation)
    if name == "efficientnet-lite0":
        load_published(features, "")
    if name == "vgg16":
        features.apply(he)
    return features


def items() -> Tensor:
    return outfits(2, 32).flatten(0, 1)[:3]


@pytest.fixture(scope="module")
def published() -> dict[VisualFeatures, FrozenFeatures]:
    made = {name: of_kind(name) for name in PUBLISHED}
    return {name: features for name, features in made.items() if isinstance(features, FrozenFeatures)}


def test_a_config_names_each_network(published: dict[VisualFeatures, FrozenFeatures]) -> None:
    assert isinstance(of_kind("trained"), TrainedFeatures)
    assert {name: type(found.network) for name, found in published.items()} == {
        "efficientnet-lite0": EfficientNetLite0,
        "vgg16": Vgg16,
    }


@pytest.mark.parametrize("name", ["trained", *PUBLISHED])
def test_features_are_one_embedding_an_item(name: VisualFeatures) -> None:
    features = of_kind(name).eval()
    embeddings = features(items())
    assert embeddings.shape == (3, 16)
    torch.testing.assert_close(features(items()[1:2])[0], embeddings[1], atol=1e-5, rtol=1e-4)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-2


def test_white_ground_is_nothing_to_trained_features() -> None:
    """As padding is: a garment on white gives what its cut-out gives, up to the mean over positions."""
    features = of_kind("trained").eval()
    white = features(torch.ones(1, 3, 32, 32))
    torch.testing.assert_close(white, torch.zeros_like(white))


@pytest.mark.parametrize("name", PUBLISHED)
def test_frozen_features_project_what_the_network_sees(
    published: dict[VisualFeatures, FrozenFeatures], name: VisualFeatures
) -> None:
    features, images = published[name], items()
    seen = features.network.embed(images)
    assert seen.shape == (3, features.network.channels)
    expected = seen @ features.projection.weight.T + features.projection.bias
    torch.testing.assert_close(features(images), expected)
    learning = {key for key, weight in features.named_parameters() if weight.requires_grad}
    assert learning == {"projection.weight", "projection.bias"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_leaves_a_frozen_network_alone(
    published: dict[VisualFeatures, FrozenFeatures], name: VisualFeatures
) -> None:
    features, images = published[name], items()
    expected = features(images).detach()
    before = {key: tensor.clone() for key, tensor in features.network.state_dict().items()}
    features.train()
    torch.testing.assert_close(features(images), expected)
    features(images).square().sum().backward()
    assert all(weight.grad is None for weight in features.network.parameters())
    assert features.projection.weight.grad is not None
    assert all(torch.equal(tensor, before[key]) for key, tensor in features.network.state_dict().items())


def test_a_checkpoint_brings_a_frozen_network_its_weights() -> None:
    """The published file is not needed again: the CCM's own state holds it, statistics and all."""
    model = tiny(collocation__features="efficientnet-lite0")
    torch.manual_seed(0)
    saved = build_classifier(model).eval()
    load_published(saved.features, "")
    torch.manual_seed(1)
    loaded = build_classifier(model).eval()
    images = outfits(2, 32)
    assert not torch.equal(loaded(images), saved(images))
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(images), saved(images))
    assert not any(module.training for module in loaded.train().features.network.modules())


def test_published_weights_are_those_of_the_package(published: dict[VisualFeatures, FrozenFeatures]) -> None:
    features = features_of(tiny(collocation__features="efficientnet-lite0").collocation)
    assert isinstance(features, FrozenFeatures)
    projection = features.projection.weight.clone()
    load_published(features, "")
    images = items()
    assert torch.equal(features.network.embed(images), load_efficientnet_lite0().embed(images))
    assert torch.equal(features.projection.weight, projection)
    with pytest.raises(ConfigError, match=r"VGG-16 weights 'nowhere\.pth' cannot be loaded"):
        load_published(published["vgg16"], "nowhere.pth")


def test_trained_features_have_nothing_published() -> None:
    features = of_kind("trained")
    before = {key: tensor.clone() for key, tensor in features.state_dict().items()}
    load_published(features, "nowhere.pth")
    assert all(torch.equal(tensor, before[key]) for key, tensor in features.state_dict().items())


def test_a_sequence_is_the_items_by_their_places() -> None:
    images = outfits(2, 32)
    assert torch.equal(in_sequence(images, (2, 0, 3, 1)), images[:, [2, 0, 3, 1]])

"""Feature networks: which there are, what they give, and what is said where one is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outfitgan.errors import ConfigError, InputError
from outfitgan.evaluation.metrics.feature_networks import EfficientNetFeatures, InceptionFeatures, feature_network


def pictures(batch: int, size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(size).uniform(-1, 1, (batch, 3, size, size))).float()


def test_efficientnet_embeds_at_the_size_it_was_trained_at() -> None:
    features = feature_network("efficientnet-lite0")
    assert isinstance(features, EfficientNetFeatures)
    assert features.name == "EfficientNet-Lite0"
    images = pictures(2, 224)
    with torch.inference_mode():
        expected = features.network.embed(images).numpy()
    np.testing.assert_allclose(features.embed(images), expected, atol=1e-4)
    small = pictures(2, 32)
    grown = nn.functional.interpolate(small, size=(224, 224), mode="bilinear")
    np.testing.assert_allclose(features.embed(small), features.embed(grown), atol=1e-3)


def test_a_row_does_not_depend_on_the_batch() -> None:
    features = feature_network("efficientnet-lite0")
    images = pictures(18, 32)  # more than are embedded at a time
    rows = features.embed(images)
    assert rows.shape == (18, 1280)
    np.testing.assert_allclose(features.embed(images[15:18]), rows[15:], atol=1e-4)
    with pytest.raises(InputError, match="give a batch"):
        features.embed(images[0])


class Levels(nn.Module):
    """Takes and gives what torch-fidelity's extractor does: levels in, a tuple of rows out."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, levels: Tensor) -> tuple[Tensor]:
        assert levels.dtype == torch.uint8
        return (levels.flatten(1).float() * self.gain,)


def test_inception_gets_levels_of_eight_bits() -> None:
    images = torch.tensor([-2.0, -1, -0.999, 0, 0.5, 1, 2]).view(7, 1, 1, 1).repeat(3, 3, 1, 1)
    features = InceptionFeatures(Levels())
    assert features.name == "Inception-v3"
    np.testing.assert_array_equal(features.embed(images)[:, 0], [0, 0, 0, 128, 191, 255, 255] * 3)


def test_what_inception_lacks_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ConfigError, match=r"need torch-fidelity and its file weights-inception-.*: pip install"):
        feature_network("inception")
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    other = tmp_path / "weights.pth"
    other.write_bytes(b"of something else")
    for weights in ("", str(tmp_path / "nowhere.pth"), str(other)):
        with pytest.raises(ConfigError, match=r"is not Inception-v3's weights: name torch-fidelity's file"):
            feature_network("inception", weights)


def test_another_network_is_unknown() -> None:
    with pytest.raises(ConfigError, match="There is no feature network 'resnet'; choose from"):
        feature_network("resnet")

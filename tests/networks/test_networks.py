"""The networks' promises: shapes, ranges, what an output depends on, and what FP16 and a batch may not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.signal import correlate2d
from torch import Tensor, nn

from outfitgan.config import DiscriminatorConfig, ModelConfig, load_preset, override, preset_names
from outfitgan.errors import ConfigError
from outfitgan.networks.alignment import CentredProjection, SemanticAlignment, cells
from outfitgan.networks.blocks import ChannelNorm, Downsampler, upsample
from outfitgan.networks.collocation import CollocationClassifier
from outfitgan.networks.discriminator import MultiScaleDiscriminator
from outfitgan.networks.generator import Generator
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


def tiny(**changes: object) -> ModelConfig:
    return override(
        load_preset("tiny"), {f"model.{name.replace('__', '.')}": value for name, value in changes.items()}
    ).model


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give biases, gains and statistics other values than the fresh ones, as a training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("bias", "gain")):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn(buffer.shape, generator=draw))
            if name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=draw))
    return module.eval().requires_grad_(requires_grad=False)


def generator(model: ModelConfig, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    network = trained(Generator(model))
    assert isinstance(network, Generator)
    nn.init.normal_(network.head.weight, std=0.3)  # so that the answer is not lost in a faint head
    return network


def photos(batch: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return sources in [-1, 1] and masks of 0 and 1, each an upright ellipse of its own."""
    draw = np.random.default_rng(seed)
    source = torch.from_numpy(draw.uniform(-1, 1, (batch, 3, size, size))).float()
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radii = draw.uniform(0.3, 0.9, (batch, 2, 1, 1))
    mask = (rows / radii[:, :1]) ** 2 + (columns / radii[:, 1:]) ** 2 < 1
    return source, torch.from_numpy(mask).float()


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


@pytest.mark.parametrize("scale", [0.1, 1.0, 6e4])
def test_channel_norm_has_root_mean_square_one(scale: float) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 12, 4, 5))).float() * scale
    norm = ChannelNorm(12)
    np.testing.assert_allclose(norm(x).detach().square().mean(dim=1).sqrt().numpy(), 1, atol=1e-3)
    nn.init.uniform_(norm.gain, 0.5, 2)
    wide = x.double().numpy()
    expected = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6) * norm.gain.detach().double().numpy()
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-5)


def test_channel_norm_of_zeros_is_zero_with_a_finite_gradient() -> None:
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    y = ChannelNorm(4)(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("scale", [1.0, 300.0, 6e4])
def test_channel_norm_of_large_fp16_is_that_of_fp32(scale: float) -> None:
    """The square of 256 overflows FP16; the error allowed is two roundings to FP16 of numbers up to 4."""
    x = (torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2, 16, 5, 5))) * scale).half()
    norm = ChannelNorm(16)
    expected = norm(x.float())
    found = norm.half()(x)
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.float(), expected, atol=2e-3, rtol=1e-3)


def test_upsampling_repeats_each_position() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert np.array_equal(upsample(x).numpy(), x.numpy().repeat(2, axis=2).repeat(2, axis=3))


@pytest.mark.parametrize(("steps", "outputs"), [(0, 8), (1, 16), (2, 24), (3, 24)])
def test_a_downsampler_doubles_the_width_up_to_its_limit(steps: int, outputs: int) -> None:
    network = Downsampler(4, 8, steps, limit=24)
    assert network.outputs == outputs
    assert network(torch.zeros(1, 4, 32, 32)).shape == (1, outputs, 32 >> steps, 32 >> steps)


SHAPES = {
    "as deep as the SAM": {"generator__downsamples": 2, "generator__alignment__downsamples": 2},
    "deeper than the SAM": {"generator__downsamples": 3, "generator__alignment__downsamples": 2},
    "a fine SAM": {"generator__downsamples": 3, "generator__alignment__downsamples": 1},
    "values wider than keys": {
        "generator__alignment__match_channels": 12,
        "generator__alignment__value_channels": 20,
        "generator__residual_blocks": 2,
    },
    "small pictures": {"image_size": 32},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_generator_gives_a_picture_in_range(shape: str, batch: int) -> None:
    model = tiny(**SHAPES[shape])
    source, mask = photos(batch, model.image_size)
    image = generator(model)(source, mask)
    assert image.shape == source.shape
    assert image.dtype == torch.float32
    assert image.abs().max() <= 1
    assert image.std() > 0.05
    warped = generator(model).alignment(source, mask)
    assert warped.shape == (batch, model.generator.alignment.value_channels, model.alignment_grid, model.alignment_grid)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_makes_networks_that_fit_each_other(preset: str) -> None:
    """On the meta device: shapes alone, so that even the paper's widths cost nothing."""
    model = load_preset(preset).model
    size = model.image_size
    with torch.device("meta"):
        source, mask = torch.empty(2, 3, size, size), torch.empty(2, 1, size, size)
        image = Generator(model)(source, mask)
        scores = MultiScaleDiscriminator(model.discriminator)(image, mask)
        logits = CollocationClassifier(model)(torch.stack([image] * 4, dim=1))
    assert image.shape == (2, 3, size, size)
    assert len(scores) == model.discriminator.scales
    assert logits.shape == (2,)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_uses_source_mask_and_alignment(shape: str) -> None:
    model = tiny(**SHAPES[shape])
    network = generator(model)
    source, mask = photos(2, model.image_size)
    image = network(source, mask)
    other_source, other_mask = photos(2, model.image_size, seed=1)
    assert (network(other_source, mask) - image).abs().mean() > 1e-2
    assert (network(source, other_mask) - image).abs().mean() > 1e-2
    network.alignment.register_forward_hook(lambda module, inputs, warped: torch.zeros_like(warped))
    assert (network(source, mask) - image).abs().mean() > 1e-3


def test_every_weight_of_a_generator_learns() -> None:
    model = tiny(generator__downsamples=3)
    torch.manual_seed(0)
    network = Generator(model)
    network(*photos(2, model.image_size)).square().mean().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_of_a_batch_is_what_it_is_alone(shape: str) -> None:
    model = tiny(**SHAPES[shape])
    network = generator(model)
    source, mask = photos(3, model.image_size)
    together = network(source, mask)
    for row in range(3):
        alone = network(source[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], atol=2e-5, rtol=0)


@pytest.mark.parametrize("mask_of", [torch.zeros_like, torch.ones_like], ids=["empty", "full"])
@pytest.mark.parametrize("shade", [-1.0, 1.0])
def test_flat_input_gives_a_finite_picture(mask_of: type, shade: float) -> None:
    source, mask = photos(2, 64)
    network = generator(tiny())
    image = network(torch.full_like(source, shade), mask_of(mask))
    assert torch.isfinite(image).all()
    half = network.half()(torch.full_like(source, shade).half(), mask_of(mask).half())
    torch.testing.assert_close(half.float(), image, atol=5e-2, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generator_in_fp16_is_near_the_one_in_fp32(shape: str) -> None:
    model = tiny(**SHAPES[shape])
    source, mask = photos(2, model.image_size)
    source = source.half().float()
    network = generator(model)
    expected = network(source, mask)
    found = network.half()(source.half(), mask.half())
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()
    assert (found.float() - expected).abs().max() < 5e-2
    assert (found.float() - expected).abs().mean() < 2e-3


def test_the_sam_matches_as_its_weights_say() -> None:
    model = tiny()
    torch.manual_seed(1)
    module = trained(SemanticAlignment(model.generator.alignment))
    assert isinstance(module, SemanticAlignment)
    source, mask = photos(2, model.image_size)
    warped, index, weight = module.match(source, mask)
    assert torch.equal(warped, module(source, mask))
    assert index.shape == weight.shape == (2, 16, 16)
    places = cells(index, 16)
    assert (places.shape, places.dtype) == ((2, 16, 16, 2), torch.int32)
    rows, columns = np.unravel_index(index.numpy(), (16, 16))
    assert np.array_equal(places.numpy(), np.stack([rows, columns], axis=-1))
    assert weight.min() >= 1 / 256 - 1e-6
    assert weight.max() <= 1 + 1e-6


def test_the_sam_tells_places_apart_where_the_mask_is_flat() -> None:
    """A full mask and a blank source hold nothing but where each cell lies; before training that is its match."""
    model = tiny()
    torch.manual_seed(1)
    module = SemanticAlignment(model.generator.alignment).eval()
    _, index, _ = module.match(torch.ones(1, 3, 64, 64), torch.ones(1, 1, 64, 64))
    found = cells(index, 16)[0].double().numpy()
    distance = np.hypot(*np.moveaxis(found - np.moveaxis(np.indices((16, 16)), 0, -1), -1, 0))
    assert np.median(distance) <= 3  # of a side of 16; by chance it is 8


def test_the_sam_carries_the_colours_of_the_source() -> None:
    """The last three channels are colours; weights sum to one, so one shade all over stays one, in order."""
    torch.manual_seed(1)
    module = SemanticAlignment(tiny().generator.alignment).eval()
    mask = photos(2, 64)[1]
    shades = torch.stack([module(torch.full((2, 3, 64, 64), shade), mask)[:, -3:] for shade in (-1.0, -0.3, 0.2, 1.0)])
    assert torch.isfinite(shades).all()
    assert shades.std(dim=(1, 2, 3, 4)).max() < 1e-5
    assert (shades.mean(dim=(1, 2, 3, 4)).diff() > 0.1).all()


@pytest.mark.parametrize("width", [1, 5, 16])
def test_cells_are_rows_and_columns(width: int) -> None:
    index = torch.arange(3 * width).reshape(1, 3, width)
    assert np.array_equal(cells(index, width)[0].numpy(), np.moveaxis(np.indices((3, width)), 0, -1))


@pytest.mark.parametrize(("layers", "scales", "size"), [(2, 2, 64), (3, 2, 64), (1, 1, 32), (3, 3, 128), (4, 2, 96)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_discriminator_scores_patches_at_every_scale(layers: int, scales: int, size: int, batch: int) -> None:
    network = MultiScaleDiscriminator(DiscriminatorConfig(width=4, layers=layers, scales=scales))
    source, mask = photos(batch, size)
    scores = network(source, mask)
    sides = [size >> (scale + layers) for scale in range(scales)]
    assert [tuple(score.shape) for score in scores] == [(batch, 1, side, side) for side in sides]
    assert all(not torch.equal(a, b) for a, b in zip(scores, network(source, 1 - mask), strict=True))
    for row in range(batch):
        for alone, together in zip(network(source[row : row + 1], mask[row : row + 1]), scores, strict=True):
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_the_second_scale_sees_the_picture_at_half_size() -> None:
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(DiscriminatorConfig(width=4, layers=2, scales=2))
    source, mask = photos(1, 64)
    x = torch.cat([source - 1, mask], dim=1)
    halved = x.reshape(1, 4, 32, 2, 32, 2).mean(dim=(3, 5))
    torch.testing.assert_close(network(source, mask)[1], network.scales[1](halved))


def classifier(model: ModelConfig) -> CollocationClassifier:
    torch.manual_seed(2)
    network = trained(CollocationClassifier(model))
    assert isinstance(network, CollocationClassifier)
    return network


def outfits(batch: int, size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(4).uniform(-1, 1, (batch, 4, 3, size, size))).float()


@pytest.mark.parametrize("size", [32, 64])
def test_the_ccm_reads_the_items_in_order(size: int) -> None:
    network, images = classifier(tiny(image_size=size)), outfits(3, size)
    logits = network(images)
    assert logits.shape == (3,)
    for order in ([1, 0, 2, 3], [3, 2, 1, 0], [1, 2, 3, 0]):
        assert (network(images[:, order]) - logits).abs().min() > 1e-5
    for slot in range(4):
        changed = images.clone()
        changed[:, slot] = -changed[:, slot]
        assert (network(changed) - logits).abs().min() > 1e-5


def test_the_ccm_judges_each_outfit_by_itself() -> None:
    network, images = classifier(tiny()), outfits(4, 64)
    together = network(images)
    assert together.std() > 1e-4
    for row in range(4):
        torch.testing.assert_close(network(images[row : row + 1])[0], together[row], atol=1e-5, rtol=1e-4)


def test_the_ccm_averages_large_pictures_down() -> None:
    network, images = classifier(tiny()), outfits(2, 64)
    averaged = images.reshape(2, 4, 3, 32, 2, 32, 2).mean(dim=(4, 6))
    torch.testing.assert_close(network(images), network(averaged), atol=1e-5, rtol=1e-4)


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

"""Every choice of a run, one frozen dataclass per concern, loaded from TOML and saved beside the run.

The paper's text beyond its abstract could not be read, so every number here is a default of ours unless its
comment names a source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from outfitgan.errors import ConfigError
from outfitgan.files import atomic_write
from outfitgan.items import COLLOCATION_ORDER, ItemKind, targets_of

Alignment = Literal["semantic", "concatenation"]
Architecture = Literal["outfitgan", "shared", "hires", "pix2pix", "pix2pixhd"]
Norm = Literal["weight", "channel", "instance"]
Initialisation = Literal["he", "normal", "xavier"]
VisualFeatures = Literal["trained", "efficientnet-lite0", "vgg16"]
CollocationHead = Literal["binary", "next-item"]
PerceptualNetwork = Literal["vgg16", "efficientnet-lite0"]
DataSet = Literal["synthetic", "ccp", "polyvore", "fashion_mnist", "folder"]
Augmentation = Literal["none", "flip", "flip-and-shift"]
Schedule = Literal["constant", "linear"]
MixedPrecision = Literal["no", "bf16", "fp16"]

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class AlignmentConfig:
    """The SAM: two feature branches, a correlation, a warp; or the ablation's plain concatenation."""

    kind: Alignment = "semantic"  # paper: semantic; "concatenation" is its ablation
    downsamples: Count = 2  # image to SAM grid: 256 -> 64
    width: Count = 16  # channels of the branches' first convolution
    match_channels: Count = 32  # C of the correlation
    value_channels: Annotated[int, Field(ge=4)] = 32  # Cv: what is warped, the last three being the source's colours
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.02


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """Encoder, SAM, decoder; which network makes the target items, and how wide it is."""

    architecture: Architecture = "outfitgan"  # paper: one generator per target kind; see networks/architectures.py
    norm: Norm = "weight"  # of the weights, nothing at inference; pix2pixHD: instance
    initialisation: Initialisation = "he"  # pix2pix: normal
    width: Count = 16  # channels at full resolution
    downsamples: Count = 3  # encoder depth: 256 -> 32
    residual_blocks: Count = 2
    alignment: AlignmentConfig = Field(default_factory=AlignmentConfig)


@dataclass(frozen=True, config=_STRICT)
class DiscriminatorConfig:
    """Multi-scale PatchGAN, one per target kind (scales and depth after pix2pixHD)."""

    width: Count = 32  # of 8 and 16 channels they see little: items stay as blurred as L1 leaves them
    layers: Count = 3
    scales: Count = 2


@dataclass(frozen=True, config=_STRICT)
class CollocationConfig:
    """The CCM: visual features per item, a Bi-LSTM over the outfit's sequence, one logit."""

    features: VisualFeatures = "trained"  # the others are frozen and published; paper: a pre-trained CNN
    head: CollocationHead = "binary"  # "next-item" after Han et al. 2017
    order: tuple[ItemKind, ...] = COLLOCATION_ORDER  # paper: upper, bag, lower, shoes
    input_size: Count = 64  # images are averaged down to this before the CNN
    width: Count = 16
    embedding: Count = 64
    hidden: Count = 64  # each direction of the Bi-LSTM
    missing: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # share of items that training hides

    @model_validator(mode="after")
    def _order_is_complete(self) -> CollocationConfig:
        if sorted(self.order) != sorted(COLLOCATION_ORDER):
            raise ValueError(f"order must name each of {', '.join(COLLOCATION_ORDER)} once")
        return self


@dataclass(frozen=True, config=_STRICT)
class MaskGeneratorConfig:
    """The pix2pix mask generator: a U-Net per target kind from the source item to a silhouette."""

    width: Count = 16  # channels of the first halving
    depth: Annotated[int, Field(ge=3, le=8)] = 5  # halvings; pix2pix: 8 at 256x256


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Everything that fixes the networks' shapes."""

    image_size: Annotated[int, Field(ge=32, le=1024)] = 256  # paper: 256
    source: ItemKind = ItemKind.UPPER
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = Field(default_factory=DiscriminatorConfig)
    collocation: CollocationConfig = Field(default_factory=CollocationConfig)
    mask_generator: MaskGeneratorConfig = Field(default_factory=MaskGeneratorConfig)

    @property
    def targets(self) -> tuple[ItemKind, ...]:
        """The kinds to generate, in collocation order."""
        return targets_of(self.source)

    @property
    def alignment_grid(self) -> int:
        """Side of the SAM's feature grid."""
        return self.image_size >> (self.generator.alignment.downsamples + self._halvings)

    @property
    def _halvings(self) -> int:
        """Halvings between the image and what the encoder and the SAM see."""
        return 1 if self.generator.architecture == "hires" else 0

    @model_validator(mode="after")
    def _grids_fit(self) -> ModelConfig:
        deepest = max(self.generator.downsamples, self.generator.alignment.downsamples) + self._halvings
        if self.image_size % (1 << deepest):
            raise ValueError(f"image_size {self.image_size} must be a multiple of {1 << deepest}")
        if self.image_size % self.collocation.input_size:
            raise ValueError(f"image_size {self.image_size} must be a multiple of collocation.input_size")
        if self.generator.alignment.downsamples > self.generator.downsamples:
            raise ValueError("the SAM's grid must lie on the decoder's way up: alignment.downsamples <= downsamples")
        if self.image_size % (1 << self.mask_generator.depth):
            raise ValueError(f"image_size {self.image_size} must be a multiple of {1 << self.mask_generator.depth}")
        if self.generator.architecture == "shared" and self.generator.alignment.kind != "semantic":
            raise ValueError(
                "the shared generator sees the source through its SAM alone: set alignment.kind to semantic"
            )
        halvings = self.discriminator.scales - 1 + self.discriminator.layers
        if not self.image_size >> halvings:
            raise ValueError(f"image_size {self.image_size} is too small for the {halvings} halvings of discriminator")
        return self


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Weights of the generator's losses (the paper names the four terms, not their weights)."""

    adversarial: Weight = 2.5  # pix2pix: 1; at 5 wide discriminators win, and edges fray
    l1: Weight = 100.0  # pix2pix
    perceptual: Weight = 0.0  # 10 in pix2pixHD; 0 needs no published weights
    perceptual_network: PerceptualNetwork = "vgg16"  # paper: vgg16
    collocation: Weight = 1.0
    vgg_weights: str = ""  # a file, or "torchvision" for its published URL; read where a VGG-16 is used


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which outfits to train on."""

    name: DataSet = "synthetic"
    root: str = ""  # folder of a published data set; unused by synthetic
    count: Count = 512  # outfits to compose; synthetic and fashion_mnist only
    augmentation: Augmentation = "none"
    cache: str = ""  # folder of decoded outfits; empty: outfitgan/ in the user's cache folder


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """One training: the CCM first, then the generators against it; mask generators by a verb of their own."""

    collocation_steps: Count = 400
    collocation_batch: Annotated[int, Field(ge=4, multiple_of=2)] = 16  # half of it compatible, half not
    collocation_rate: Rate = 1e-3
    steps: Count = 20000
    batch: Count = 4  # outfits a step, over all processes
    accumulation: Count = 1  # parts that a step's batch is computed in; saves memory, not time
    rate: Rate = 4e-4  # of the generators, whose normed weights take twice pix2pix's
    discriminator_rate: Rate = 2e-4  # pix2pix
    schedule: Schedule = "constant"  # pix2pix: linear, to zero over the second half
    mixed_precision: MixedPrecision = "no"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the averaged generators, which are what is exported
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5  # pix2pix
    mask_steps: Count = 5000
    mask_batch: Count = 8
    mask_rate: Rate = 2e-4  # pix2pix
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    checkpoint_every: Count = 500
    sample_every: Annotated[int, Field(ge=0)] = 0  # steps; 0: once an epoch
    tensorboard: bool = True  # event files beside stats.jsonl


@dataclass(frozen=True, config=_STRICT)
class Config:
    """A whole run."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    losses: LossConfig = Field(default_factory=LossConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)


_ADAPTER = TypeAdapter(Config)


def preset_names() -> list[str]:
    """Return the presets that ship with the package."""
    folder = resources.files("outfitgan") / "presets"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_preset(name: str) -> Config:
    """Return the preset called `name`; raise ConfigError, which lists the presets, if there is none."""
    if name not in preset_names():
        raise ConfigError(f"There is no preset '{name}'; choose from {', '.join(preset_names())}.")
    text = (resources.files("outfitgan") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return _validate(tomllib.loads(text), f"preset '{name}'")


def load_config(path: Path) -> Config:
    """Read a TOML file; raise ConfigError in one sentence if it is missing or wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the config {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    return _validate(data, str(path))


def override(config: Config, changes: dict[str, Any]) -> Config:
    """Return `config` with dotted fields such as {"training.steps": 20} replaced; None leaves a field as it is."""
    data = _ADAPTER.dump_python(config, mode="json")
    for dotted, value in changes.items():
        if value is None:
            continue
        *parents, leaf = dotted.split(".")
        table = data
        for parent in parents:
            if not isinstance(table.get(parent), dict):
                raise ConfigError(f"There is no field '{dotted}': the config has {', '.join(table)} there.")
            table = table[parent]
        table[leaf] = value
    return _validate(data, "the options")


def parse_fields(options: Sequence[str]) -> dict[str, Any]:
    """Return what FIELD=VALUE options say, as `override` takes it; a value is TOML, or else a plain word."""
    fields: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set takes FIELD=VALUE, as in --set training.steps=500, not '{option}'.")
        try:
            fields[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            fields[name.strip()] = text.strip()
    return fields


def save_config(config: Config, path: Path) -> None:
    """Write every field of `config` as TOML."""
    text = tomli_w.dumps(_ADAPTER.dump_python(config, mode="json"))
    atomic_write(path, text.encode())


def _validate(data: dict[str, Any], origin: str) -> Config:
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "config"
        got = "" if first["type"] == "value_error" else f" (got {first['input']!r})"  # that input is a whole table
        raise ConfigError(f"{origin}: {where}: {first['msg'].removeprefix('Value error, ')}{got}.") from error

"""Every choice of a run, one frozen dataclass per concern, loaded from TOML and saved beside the run.

The paper's text beyond its abstract could not be read, so every number here is a default of ours unless its
comment names a source.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from outfitgan.errors import ConfigError
from outfitgan.files import atomic_write
from outfitgan.items import ItemKind, targets_of

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class AlignmentConfig:
    """The SAM: two feature branches, a correlation, a warp."""

    downsamples: Count = 2  # image to SAM grid: 256 -> 64
    width: Count = 16  # channels of the branches' first convolution
    match_channels: Count = 64  # C of the correlation
    value_channels: Annotated[int, Field(ge=4)] = 64  # Cv: what is warped, the last three being the source's colours
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.02


@dataclass(frozen=True, config=_STRICT)
class GeneratorConfig:
    """Encoder, SAM, decoder; one generator per target kind (the paper's N-1)."""

    width: Count = 16  # channels at full resolution
    downsamples: Count = 3  # encoder depth: 256 -> 32
    residual_blocks: Count = 4
    alignment: AlignmentConfig = Field(default_factory=AlignmentConfig)


@dataclass(frozen=True, config=_STRICT)
class DiscriminatorConfig:
    """Multi-scale PatchGAN, one per target kind (scales and depth after pix2pixHD)."""

    width: Count = 16
    layers: Count = 3
    scales: Count = 2


@dataclass(frozen=True, config=_STRICT)
class CollocationConfig:
    """The CCM: a CNN per item, a Bi-LSTM over the collocation order, one logit."""

    input_size: Count = 64  # images are averaged down to this before the CNN
    width: Count = 16
    embedding: Count = 64
    hidden: Count = 64  # each direction of the Bi-LSTM


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Everything that fixes the networks' shapes."""

    image_size: Annotated[int, Field(ge=32, le=1024)] = 256  # paper: 256
    source: ItemKind = ItemKind.UPPER
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = Field(default_factory=DiscriminatorConfig)
    collocation: CollocationConfig = Field(default_factory=CollocationConfig)

    @property
    def targets(self) -> tuple[ItemKind, ...]:
        """The kinds to generate, in collocation order."""
        return targets_of(self.source)

    @property
    def alignment_grid(self) -> int:
        """Side of the SAM's feature grid."""
        return self.image_size >> self.generator.alignment.downsamples

    @model_validator(mode="after")
    def _grids_fit(self) -> ModelConfig:
        deepest = max(self.generator.downsamples, self.generator.alignment.downsamples)
        if self.image_size % (1 << deepest):
            raise ValueError(f"image_size {self.image_size} must be a multiple of {1 << deepest}")
        if self.image_size % self.collocation.input_size:
            raise ValueError(f"image_size {self.image_size} must be a multiple of collocation.input_size")
        if self.generator.alignment.downsamples > self.generator.downsamples:
            raise ValueError("the SAM's grid must lie on the decoder's way up: alignment.downsamples <= downsamples")
        halvings = self.discriminator.scales - 1 + self.discriminator.layers
        if not self.image_size >> halvings:
            raise ValueError(f"image_size {self.image_size} is too small for the {halvings} halvings of discriminator")
        return self


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Weights of the generator's losses (the paper names the four terms, not their weights)."""

    adversarial: Weight = 1.0
    l1: Weight = 100.0  # pix2pix
    perceptual: Weight = 0.0  # 10 in pix2pixHD; 0 needs no VGG-16 weights
    collocation: Weight = 1.0
    vgg_weights: str = ""  # a file, or "torchvision" for its published URL; read when perceptual > 0


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Which outfits to train on."""

    name: Annotated[str, Field(pattern="^(synthetic|ccp)$")] = "synthetic"
    root: str = ""  # folder of a published data set; unused by synthetic
    count: Count = 512  # outfits to draw; synthetic only


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """One training: the CCM first, then the generators against it."""

    collocation_steps: Count = 400
    collocation_batch: Annotated[int, Field(ge=4, multiple_of=2)] = 16  # half of it compatible, half not
    collocation_rate: Rate = 1e-3
    steps: Count = 20000
    batch: Count = 4
    rate: Rate = 2e-4  # pix2pix
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5  # pix2pix
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    checkpoint_every: Count = 500
    sample_every: Count = 500


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
            table = table[parent]
        table[leaf] = value
    return _validate(data, "the options")


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

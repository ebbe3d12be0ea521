"""Configs: what is saved loads again, and what is wrong is refused by name."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outfitgan.config import DataConfig, load_config, load_preset, override, preset_names, save_config
from outfitgan.data.open_outfits import open_outfits
from outfitgan.errors import ConfigError
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.training.train import chosen_config


@pytest.mark.parametrize("preset", preset_names())
def test_a_saved_preset_loads_as_it_was(preset: str, tmp_path: Path) -> None:
    save_config(load_preset(preset), tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml") == load_preset(preset)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(1e-300, 1),
    weight=st.floats(0, 1e300),
    seed=st.integers(0, 2**63 - 1),
    root=st.text(max_size=20),
    source=st.sampled_from(ItemKind),
)
def test_any_config_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, rate: float, weight: float, seed: int, root: str, source: ItemKind
) -> None:
    changes = {"training.rate": rate, "losses.l1": weight, "training.seed": seed, "data.root": root}
    config = override(load_preset("tiny"), changes | {"model.source": source})
    path = tmp_path_factory.getbasetemp() / "any" / "config.toml"
    save_config(config, path)
    assert load_config(path) == config
    assert config.model.targets == tuple(kind for kind in COLLOCATION_ORDER if kind is not source)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("training.steps", 0, "training.steps"),
        ("training.steps", 1.5, "training.steps"),
        ("training.batch", -1, "training.batch"),
        ("training.collocation_batch", 5, "training.collocation_batch"),
        ("training.collocation_batch", 2, "training.collocation_batch"),
        ("training.rate", 0, "training.rate"),
        ("training.rate", math.inf, "training.rate"),
        ("training.rate", 1.5, "training.rate"),
        ("training.collocation_rate", math.nan, "training.collocation_rate"),
        ("training.rate", "fast", "training.rate"),
        ("training.beta1", 1, "training.beta1"),
        ("training.seed", -1, "training.seed"),
        ("training.seed", 1 << 63, "training.seed"),
        ("training.speed", 3, "training.speed"),
        ("losses.l1", -1, "losses.l1"),
        ("losses.l1", math.nan, "losses.l1"),
        ("losses.adversarial", math.inf, "losses.adversarial"),
        ("data.name", "imagenet", "data.name"),
        ("data.count", 0, "data.count"),
        ("model.source", "hat", "model.source"),
        ("model.image_size", 16, "model.image_size"),
        ("model.image_size", 2048, "model.image_size"),
        ("model.image_size", 100, "image_size 100"),
        ("model.generator.downsamples", 7, "image_size 64"),
        ("model.generator.alignment.downsamples", 3, "alignment.downsamples"),
        ("model.generator.alignment.temperature", 0, "model.generator.alignment.temperature"),
        ("model.generator.alignment.temperature", 1.1, "model.generator.alignment.temperature"),
        ("model.generator.alignment.temperature", math.nan, "model.generator.alignment.temperature"),
        ("model.generator.alignment.value_channels", 0, "model.generator.alignment.value_channels"),
        ("model.collocation.input_size", 48, "collocation.input_size"),
        ("model.discriminator.scales", 9, "discriminator"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(tmp_path: Path, field: str, value: object, named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)) as caught:
        override(load_preset("tiny"), {field: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    if isinstance(value, int | float) and field != "training.speed":
        table, leaf = field.rsplit(".", 1)
        shown = "nan" if value != value else repr(value)
        path = tmp_path / "config.toml"
        path.write_text(f"[{table}]\n{leaf} = {shown}\n", encoding="utf-8")
        if field.startswith(("training", "losses", "data")):
            with pytest.raises(ConfigError, match=f"config.toml: {re.escape(named)}"):
                load_config(path)


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for content in (b"[model\n", b"\xff\xfe", b"a b = 1"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"config\.toml is not TOML"):
            load_config(path)
    path.write_text("model = 3\n")
    with pytest.raises(ConfigError, match=r"config\.toml: model: "):
        load_config(path)
    with pytest.raises(ConfigError, match=r"Cannot read the config .*nowhere"):
        load_config(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="Cannot read the config"):
        load_config(tmp_path)


def test_a_config_is_chosen_from_a_preset_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config = override(load_preset("tiny"), {"training.steps": 24})
    save_config(config, path)
    assert chosen_config(None, None, {}) == load_preset("small")
    assert chosen_config("tiny", None, {"training.steps": None}) == load_preset("tiny")
    assert chosen_config(None, path, {"training.steps": 7}) == override(config, {"training.steps": 7})
    with pytest.raises(ConfigError, match="not both"):
        chosen_config("tiny", path, {})
    shipped = "demo, hires, paper, photos, shared, small, study, tiny"
    with pytest.raises(ConfigError, match=f"no preset 'huge'; choose from {shipped}"):
        load_preset("huge")


def test_a_source_of_data_is_asked_for_where_it_lies() -> None:
    with pytest.raises(ConfigError, match=r"data\.root is empty"):
        open_outfits(DataConfig(name="ccp"), 32, "train", 0)
    with pytest.raises(ConfigError, match="no split 'validation'; choose from train, test"):
        open_outfits(DataConfig(), 32, "validation", 0)

"""What the tests of training share: small configs, batches over them, and networks to compare."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from outfitgan.config import Config, load_preset, override
from outfitgan.data.augmentation import augmentation_of
from outfitgan.data.outfit_store import OutfitStore, open_store
from outfitgan.items import ItemKind
from outfitgan.networks.collocation import build_classifier
from outfitgan.training.batches import Batches
from outfitgan.training.device import accelerator_for
from outfitgan.training.outfit_trainer import OutfitTrainer
from outfitgan.training.runs import Run

STAGES = {"collocation": 24, "outfit": 24}
TARGETS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)


def small(**changes: Any) -> Config:
    """The tiny preset at 32 pixels; keyword arguments are fields with __ for the dot."""
    fields: dict[str, Any] = {"model.image_size": 32, "data.count": 10}
    return override(load_preset("tiny"), fields | {name.replace("__", "."): value for name, value in changes.items()})


CONFIG = small(
    training__collocation_steps=STAGES["collocation"],
    training__steps=STAGES["outfit"],
    training__checkpoint_every=10,
    training__sample_every=10,
)


def store_of(config: Config, split: str = "train") -> OutfitStore:
    return open_store(config.data, config.model.image_size, split, config.training.seed)


def batches_of(config: Config, seed: int = 0, **share: int) -> Batches:
    return Batches(store_of(config), seed, augmentation_of(config.data.augmentation), **share)


def outfit_trainer(config: Config) -> OutfitTrainer:
    torch.manual_seed(1)
    classifier = build_classifier(config.model)
    batches = batches_of(config, config.training.seed)
    return OutfitTrainer(config, batches, classifier, accelerator_for(config.training))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def stats(run: Run) -> list[dict[str, Any]]:
    lines = (run.folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]

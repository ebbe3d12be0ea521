"""A training on a real GPU, two steps of each kind: `pytest tests/gpu`. Not run by us yet."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from outfitgan.config import MixedPrecision, load_preset, override
from outfitgan.training.device import accelerator_for
from outfitgan.training.runs import Run
from outfitgan.training.scorer import load_scorer
from outfitgan.training.train import train_masks, train_run

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="This needs an NVIDIA GPU and torch's CUDA build."
)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_two_steps_of_each_training_and_a_resume(tmp_path: Path, precision: MixedPrecision) -> None:
    fields = {
        "training.collocation_steps": 2,
        "training.steps": 2,
        "training.mask_steps": 2,
        "training.checkpoint_every": 1,
        "training.sample_every": 1,
        "training.mixed_precision": precision,
        "data.augmentation": "flip-and-shift",
        "losses.perceptual": 1.0,
        "losses.perceptual_network": "efficientnet-lite0",
    }
    config = override(load_preset("tiny"), fields)
    assert accelerator_for(config.training).device.type == "cuda"
    run = Run.create(tmp_path / "run", config)
    train_run(run)
    train_masks(run)
    scorer = load_scorer(run)
    assert {parameter.device.type for parameter in scorer.parameters()} == {"cpu"}
    for stage in ("collocation", "outfit", "masks", "scorer"):
        assert run.step(stage) == 2
        tensors = load_file(run.folder / "checkpoints" / f"{stage}-000002.safetensors")
        assert all(math.isfinite(tensor.float().abs().max().item()) for tensor in tensors.values() if tensor.numel())
    samples = sorted((run.folder / "samples").iterdir())
    assert [path.name for path in samples] == ["000001.png", "000002.png"]
    for path in samples:
        with Image.open(path) as image:
            assert image.size == (64 * 10, 64 * 4)

    longer = Run(run.folder, override(config, {"training.steps": 3}))
    train_run(longer)
    assert longer.step("outfit") == 3

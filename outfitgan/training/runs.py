"""A run's folder: its config, its log, its checkpoints.

config.toml      every choice, resolved
stats.jsonl      one line a logged step
checkpoints/     safetensors, with their hashes in checkpoints.json
samples/         grids of generated outfits
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from outfitgan.config import Config, load_config, save_config
from outfitgan.errors import RunError
from outfitgan.files import atomic_write, partial_file, sha256_of

_ENTRY = ("file", "step", "sha256")  # what checkpoints.json says of a stage


class Run:
    """One training run on disk."""

    def __init__(
        self,
        folder: Path,  # where all of it lies
        config: Config,  # as its config.toml says
    ) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def create(cls, folder: Path, config: Config) -> Run:
        """Start a run in a folder that holds none yet, or one that never took a step (its data was not there, say)."""
        if any((folder / name).exists() for name in ("stats.jsonl", "checkpoints/checkpoints.json")):
            raise RunError(f"{folder} already holds a run; continue it with --resume, or choose another --run.")
        try:
            save_config(config, folder / "config.toml")
        except OSError as error:
            raise RunError(f"Cannot write the run to {folder} ({error.strerror}); choose another --run.") from error
        return cls(folder, config)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open an existing run."""
        if not (folder / "config.toml").is_file():
            raise RunError(f"{folder} holds no run (no config.toml); make one with 'outfitgan train --run {folder}'.")
        return cls(folder, load_config(folder / "config.toml"))

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Append one line to stats.jsonl."""
        line = json.dumps({"stage": stage, "step": step} | {key: round(value, 6) for key, value in values.items()})
        with (self.folder / "stats.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def rewind_log(self, stage: str, step: int) -> None:
        """Drop the lines of `stage` past `step` and any half-written one: they are of steps that are taken again."""
        path = self.folder / "stats.jsonl"
        if not path.exists():
            return
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        kept = b"".join(line for line in lines if _is_kept(line, stage, step))
        if kept != whole:
            atomic_write(path, kept)

    def save(self, stage: str, step: int, tensors: dict[str, Tensor]) -> Path:
        """Write the checkpoint of `stage`; the one before it is removed once this one is whole."""
        path = self.folder / "checkpoints" / f"{stage}-{step:06d}.safetensors"
        with partial_file(path) as partial:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial)
        index = self._index()
        before = index.get(stage)
        index[stage] = {"file": path.name, "step": step, "sha256": sha256_of(path)}
        atomic_write(self.folder / "checkpoints" / "checkpoints.json", json.dumps(index, indent=2).encode())
        if before and before["file"] != path.name:
            (path.parent / before["file"]).unlink(missing_ok=True)
        return path

    def step(self, stage: str) -> int:
        """Return the step of the stage's checkpoint, 0 without one."""
        return int(self._index().get(stage, {"step": 0})["step"])

    def load(self, stage: str) -> dict[str, Tensor]:
        """Return the tensors of the stage's checkpoint, checked by hash; raise RunError if it cannot be used."""
        entry = self._index().get(stage)
        if entry is None:
            raise RunError(f"{self.folder} has no {stage} checkpoint yet; finish it with 'outfitgan train --resume'.")
        path = self.folder / "checkpoints" / str(entry["file"])
        if not path.is_file():
            raise RunError(f"The checkpoint {path} is missing; restore it or train the run again.")
        if sha256_of(path) != entry["sha256"]:
            raise RunError(f"The checkpoint {path} was altered since it was written; restore it or train again.")
        try:
            return load(path.read_bytes())
        except SafetensorError as error:
            raise RunError(f"The checkpoint {path} is not safetensors ({error}).") from error

    def _index(self) -> dict[str, Any]:
        path = self.folder / "checkpoints" / "checkpoints.json"
        if not path.exists():
            return {}
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            return {str(stage): _checked_entry(entry) for stage, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{path} is not readable ({error}); restore it or train the run again.") from error


def _checked_entry(entry: Any) -> dict[str, Any]:
    """Return the index's entry of one stage; raise ValueError unless its file lies in the folder of the index."""
    file, step, digest = (entry[key] for key in _ENTRY)
    if not isinstance(file, str) or Path(file).name != file or Path(file).suffix != ".safetensors" or "\0" in file:
        raise ValueError(f"{file!r} is not the name of a .safetensors file")
    if type(step) is not int or step < 0:
        raise ValueError(f"{step!r} is not a step")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is not a SHA-256")
    return {"file": file, "step": step, "sha256": digest}


def _is_kept(line: bytes, stage: str, step: int) -> bool:
    """Return whether a line of the log is whole and not of a later step of `stage`."""
    try:
        entry = json.loads(line)
        return line.endswith(b"\n") and (entry["stage"] != stage or entry["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def unfinished_stages(run: Run) -> list[str]:
    """Return a sentence for each training that was begun and has steps left."""
    training = run.config.training
    notes = []
    for what, stage, steps in (
        ("the training", "outfit", training.steps),
        ("the mask generators' training", "masks", training.mask_steps),
    ):
        if 0 < (done := run.step(stage)) < steps:
            notes.append(f"{what} stands at step {done} of {steps}")
    return notes


def pack(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state under `prefix.`, in the order that files have."""
    return {f"{prefix}.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}


def unpack(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load what `pack` wrote; raise RunError if the shapes are not this module's."""
    start = f"{prefix}."
    state = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise RunError(f"The checkpoint does not fit the run's config ({detail}); train the run again.") from error


def pack_optimizer(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state tensors under `prefix.<parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{index}.{key}": value.contiguous() for index, slots in state.items() for key, value in slots.items()
    }


def unpack_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what `pack_optimizer` wrote into an optimiser over the same parameters, each laid out as its parameter is.

    A fused step walks through both in memory.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            index, key = name.removeprefix(f"{prefix}.").split(".", 1)
            like = parameters[int(index)]
            laid_out = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            slots.setdefault(int(index), {})[key] = laid_out
    optimizer.load_state_dict(optimizer.state_dict() | {"state": slots})

"""Where everything of a run lies, readable without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from outfitgan.config import Config, load_config
from outfitgan.errors import RunError

_EXPORTED = ("collocation", "masks", "outfit")
"""Stages whose networks become graphs; an evaluation adds its scorer to the checkpoints, which makes no graph stale."""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder."""

    path: Path

    @property
    def graphs(self) -> Path:
        """The exported ONNX files."""
        return self.path / "graphs"

    @property
    def engines(self) -> Path:
        """The engine store."""
        return self.path / "engines"

    @property
    def repository(self) -> Path:
        """The assembled Triton model repository."""
        return self.path / "repository"

    def graphs_of(self, form: str) -> Path:
        """Return the folder of the exported graphs of one form; the standard ones lie above the others."""
        return self.graphs if form == "standard" else self.graphs / form

    def config(self) -> Config:
        """Return the run's config; raise RunError if this is no run."""
        if not (self.path / "config.toml").is_file():
            raise RunError(
                f"{self.path} holds no run (no config.toml); make one with 'outfitgan train --run {self.path}'."
            )
        return load_config(self.path / "config.toml")

    def weights(self) -> str:
        """Return a digest of the checkpoints that graphs are exported from, empty if there are none.

        Raises RunError if their index cannot be read.
        """
        index = self.path / "checkpoints" / "checkpoints.json"
        if not index.is_file():
            return ""
        try:
            entries = json.loads(index.read_text(encoding="utf-8"))
            exported = {stage: entries[stage] for stage in _EXPORTED if entries.get(stage)}
        except (ValueError, AttributeError) as error:
            raise RunError(f"{index} is not readable ({error}); restore it or train the run again.") from error
        return hashlib.sha256(json.dumps(exported, sort_keys=True).encode()).hexdigest() if exported else ""

"""Where everything of a run lies, readable without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from outfitgan.config import Config, load_config
from outfitgan.errors import RunError


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

    def config(self) -> Config:
        """Return the run's config; raise RunError if this is no run."""
        if not (self.path / "config.toml").is_file():
            raise RunError(
                f"{self.path} holds no run (no config.toml); make one with 'outfitgan train --run {self.path}'."
            )
        return load_config(self.path / "config.toml")

    def weights(self) -> str:
        """Return a digest of the run's current checkpoints, empty if there are none."""
        index = self.path / "checkpoints" / "checkpoints.json"
        return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else ""

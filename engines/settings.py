"""The settings of a build besides its graph and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.manifest import Profile
from outfitgan.progress import Progress


@dataclass(frozen=True)
class BuildSettings:
    """How a runtime builds an engine."""

    profile: Profile
    options: Mapping[str, Any]  # the runtime's own, as its `options` returned them
    cache: Path  # a folder for what makes the next build faster; it may be emptied at any time
    progress: Progress

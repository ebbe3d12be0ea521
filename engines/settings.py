"""What a build is asked for besides its graph and precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.manifest import Profile

Watch = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of it are, and of how many."""


@dataclass(frozen=True)
class BuildSettings:
    """How a target builds an engine."""

    profile: Profile
    options: Mapping[str, Any]  # the target's own, as its `options` returned them
    cache: Path  # a folder for what makes the next build faster; it may be emptied at any time
    watch: Watch


def unwatched(what: str, done: int, total: int) -> None:
    """Watch a build without showing it."""

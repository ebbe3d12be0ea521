"""How long work reports its progress, whatever shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of it are done, and how many there are."""


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""

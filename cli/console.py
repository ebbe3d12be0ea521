"""What the verbs print: results on stdout, notes, errors and progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from outfitgan.progress import Progress

out = Console(highlight=False, soft_wrap=True)
tables = Console(highlight=False)
"""A console that wraps: for tables wider than the terminal."""

_err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str, style: str | None = None) -> None:
    """Print to stdout."""
    out.print(text, style=style, markup=False)


def print_dim(text: str) -> None:
    """Print to stdout what matters less than results."""
    print_line(text, style="dim")


def print_note(text: str) -> None:
    """Print to stderr what a person might not expect."""
    _err.print(text, style="dim", markup=False)


def print_notes(notes: Iterable[str]) -> None:
    """Print notes, a line each."""
    for note in notes:
        print_note(f"note: {note}")


def print_error(text: str) -> None:
    """Print to stderr what went wrong."""
    _err.print(text, style="red", markup=False)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a progress bar for steps that have names; yield what reports them."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(f"{title:<12}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Bar(*columns, TextColumn("{task.description}", style="dim"), console=_err) as bar:
        task = bar.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield report

"""What every program of this project does around its work: errors as one sentence, exit codes, renamed options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from outfitgan.errors import sentence

EXPECTED_ERROR, INTERRUPTED = 2, 130
"""Exit codes: of an error that a person can act on, and of Ctrl-C."""

RENAMED_OPTIONS = {"--target": "--runtime"}
"""Options of earlier versions that still work, with what they are called now."""


def print_error(text: str) -> None:
    """Print to stderr."""
    print(text, file=sys.stderr)


def run_program(main: Callable[[], object], report: Callable[[str], None] = print_error) -> None:
    """Run `main`; report an expected error as one sentence and exit with 2, and with 130 after Ctrl-C."""
    try:
        main()
    except Exception as error:
        if (text := sentence(error)) is None:
            raise
        report(f"error: {text}")
        sys.exit(EXPECTED_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def with_new_names(
    arguments: Sequence[str],
    report: Callable[[str], None] = print_error,
    renamed: Mapping[str, str] = RENAMED_OPTIONS,  # old name -> new name
) -> list[str]:
    """Return a command line in which renamed options have their new names; report a note for each that had not."""
    current = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in renamed:
            report(f"note: {name} is now called {renamed[name]}; the old name works for now.")
        current.append(f"{renamed.get(name, name)}{equals}{value}")
    return current

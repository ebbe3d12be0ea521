"""`outfitgan <verb>`: every family of verbs as one program."""

from __future__ import annotations

import os
import sys

import typer

from cli import data_verbs, deploy_verbs, engine_verbs, kernel_verbs, serve_verbs, study_verbs, train_verbs
from cli.console import print_error, print_note
from outfitgan.program import run_program, with_new_names

app = typer.Typer(
    help="OutfitGAN from training to Triton Inference Server: from one garment to a compatible outfit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data_verbs.app, name="data")
for _family in (train_verbs, deploy_verbs, engine_verbs, serve_verbs, study_verbs, kernel_verbs):
    app.add_typer(_family.app)


def main() -> None:
    """Run a verb; an expected error is one sentence on stderr and exit code 2."""
    # torch's threads wait for each other by spinning; beside another busy program that makes a small network's training
    # many times slower (0.6 s a step became 8 s). Read when torch is loaded, so it is set here.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = with_new_names(sys.argv[1:], print_note)
    run_program(lambda: app(arguments), print_error)

"""`python -m serving.edge`: an outfit on a box that has engines, and neither their run nor torch, onnx or a server.

It imports numpy and Pillow, and what the engines' runtime imports: tensorrt and pycuda for plans.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from engines.engine_folder import find_engines
from engines.manifest import parse_manifest
from outfitgan.errors import InputError
from outfitgan.items import ItemKind
from outfitgan.program import print_error, run_program, with_new_names
from serving.generation import check_output, generate_here, summary
from serving.in_process import OutfitPipeline
from serving.request import parse_masks, read_request


def edge_pipeline(
    root: Path,  # a run's engines folder, or a copy of it
    runtime: str | None = None,  # None where `root` has engines of one runtime
    precision: str | None = None,  # None where it has one engine a graph
    threads: int = 0,  # an engine on a CPU; 0: all cores
) -> OutfitPipeline:
    """Return a pipeline over the engines below `root`.

    Raises:
        EngineError: if there are none, or too many to choose from.
        GraphError: if they are not those of one whole run.

    """
    folders = find_engines(root, runtime, precision)
    contracts = {name: parse_manifest(folder).contract for name, folder in folders.items()}
    return OutfitPipeline(contracts, folders, threads)


def generate(options: argparse.Namespace) -> None:
    """Generate what the options request and print a summary; raise OutfitError if it cannot be done."""
    masks, kinds = parse_masks(options.mask), [ItemKind.parse(kind) for kind in options.only]
    check_output(options.output)
    with edge_pipeline(options.engines, options.runtime, options.precision, options.threads) as pipeline:
        request = read_request(options.source, masks, kinds, pipeline)
        _note(request.notes)
        result = generate_here(pipeline, request, options.output)
    print(summary(request, result, options.output))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; an expected error is one sentence on stderr and exit code 2."""
    current = with_new_names(sys.argv[1:] if arguments is None else arguments)
    run_program(lambda: generate(_parser().parse_args(current)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}; see --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m serving.edge", description="Generate the rest of an outfit from one garment.")
    parser.add_argument("--engines", type=Path, required=True, help="a run's engines folder, or a copy of it")
    parser.add_argument("--source", type=Path, required=True, help="a picture of the garment you have")
    parser.add_argument("--output", type=Path, required=True, help="folder for the outfit's pictures")
    mask = "KIND=FILE, white silhouette on black, or KIND=auto; once an item; none: all are generated"
    parser.add_argument("--mask", action="append", default=[], metavar="KIND=FILE", help=mask)
    parser.add_argument("--only", action="append", default=[], metavar="KIND", help="make this kind; may be repeated")
    parser.add_argument("--runtime", help="what runs the engines, where the folder has several")
    parser.add_argument("--precision", help="what they were built with, where the folder has several")
    parser.add_argument("--threads", type=_threads, default=0, help="an engine on a CPU; 0 takes every core")
    return parser


def _threads(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not 0 or more")
    return int(text)


def _note(notes: Iterable[str]) -> None:
    for note in notes:
        print_error(f"note: {note}")


if __name__ == "__main__":
    main()

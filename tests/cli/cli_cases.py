"""What the tests of the command line share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SIZE = 32
OPTIONS = {
    "data write": "--output --data --root --split --count --size --seed",
    "data inspect": "--output --data --root --split --count --size --seed",
    "train": "--run --preset --config --resume --data --root --source --image-size --steps --collocation-steps "
    "--batch --seed --set",
    "train-masks": "--run",
    "export": "--run --precision --calibrate",
    "build": "--run --runtime --precision --set",
    "inspect": "",
    "verify": "",
    "parity": "--run",
    "assemble": "--run --runtime --precision --threads --output --also --instances --cuda-graph --server-tensorrt",
    "serve": "--repository --http-port --grpc-port --metrics-port --host --log",
    "generate": "--source --mask --output --run --server --protocol --wait --only --runtime --precision --threads",
    "demo": "--output --preset",
    "kernel": "--output --run --preset --architecture --dtype --layout",
    "evaluate": "--run --output --count --data --root",
    "experiment": "--output --preset --config --data --root --seeds --count --set --run --on",
}
QUICK = ["--preset", "tiny", "--image-size", "32", "--collocation-steps", "1", "--steps", "1"]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


def outfitgan(*arguments: object) -> Answer:
    """`outfitgan` in a process of its own."""
    command = [sys.executable, "-c", "from cli.main import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    return Answer(done.returncode, done.stdout, done.stderr)


def refused(answer: Answer, message: str) -> None:
    """The answer is one sentence on stderr that `message` describes."""
    assert answer.code == 2, answer
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert re.match("error: ", lines[0])
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in answer.out + answer.err


def masks_of(folder: Path, *kinds: str) -> list[str]:
    return [part for kind in kinds for part in ("--mask", f"{kind}={folder / f'{kind}_mask.png'}")]

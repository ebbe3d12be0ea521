"""One row in a process of its own: reads a spec, writes its timing and its images."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

# What rows use is loaded before the clock starts, in every row alike: loading it is no part of a row's time or memory.
import serving.client.outfit_client
import serving.run_pipeline  # noqa: F401
from bench.measure import measure
from bench.rows import ROWS
from bench.spec import Spec
from outfitgan.errors import OutfitError


def main(path: Path) -> None:
    """Run the row that the spec file names; write <spec>.out.json and <spec>.npz, or the reason why not."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    spec = Spec(
        Path(settings["run"]),
        Path(settings["inputs"]),
        settings["threads"],
        settings["server"],
        settings["server_http"],
    )
    answer = path.with_suffix(".out.json")
    began = time.perf_counter()
    try:
        with ROWS[settings["row"]].open(spec) as call:
            timing = measure(call, time.perf_counter() - began, settings["requests"], settings["repeats"])
            if made := call():
                np.savez(path.with_suffix(".npz"), **made)
    except OutfitError as error:
        answer.write_text(json.dumps({"error": str(error)}), encoding="utf-8")
    else:
        answer.write_text(json.dumps(timing.to_json()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

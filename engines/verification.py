"""Engines built where they cannot run: what their graphs give is kept beside them, and compared where they do."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from engines.manifest import EngineManifest, Profile, read_manifest, write_manifest
from engines.registry import load_runtime
from export.parity import Parity, Runner, adversarial_inputs, measure, shortfalls
from outfitgan.contracts import Arrays, GraphContract
from outfitgan.errors import EngineError, UnsupportedError

REFERENCES = "references.npz"
"""The file of an engine's folder that holds its graph's outputs in onnxruntime, a row for each adversarial input."""

UNKNOWN_DEVICE = {"name": "none yet"}
"""The device of an engine that has not run."""

_SEED = 0


def save_references(run: Runner, contract: GraphContract, precision: str, folder: Path) -> None:
    """Write what `run`, which is the graph in onnxruntime, gives for each adversarial input.

    Values of FP32 are written in FP16, half the size, but for an engine of precision fp32, which owes more than that.
    """
    outputs = [run(feeds) for _, feeds in adversarial_inputs(contract, 1, _SEED)]
    rows = {spec.name: np.concatenate([given[spec.name] for given in outputs]) for spec in contract.outputs}
    if precision != "fp32":
        rows = {name: _narrow(array) for name, array in rows.items()}
    np.savez_compressed(folder / REFERENCES, **rows)


def verify(folder: Path) -> EngineManifest:
    """Run an engine on this machine, and write into its manifest how well it agrees with its graph.

    An engine that was verified before is verified again.

    Raises:
        UnsupportedError: if this machine runs no engine of the kind.
        EngineError: if it was altered or does not open, and its manifest stays as it was; or if it is out of tolerance,
            and it is unverified from then on, whatever was measured before.

    """
    manifest = read_manifest(folder)
    if REFERENCES not in manifest.files:
        raise EngineError(
            f"The engine {folder} keeps no outputs to compare with: it was measured when it was built, where it runs."
        )
    runtime = load_runtime(manifest.runtime)
    if reason := runtime.why_not_here(manifest.options):
        raise UnsupportedError(f"{folder} cannot be verified here: {reason}")
    with runtime.open(folder, replace(manifest, verified=False), 0) as engine:
        figures = _measure(engine, _read(folder, manifest.contract))
    device = runtime.device()
    missed = shortfalls(figures, manifest.contract, manifest.precision)
    if missed:
        write_manifest(replace(manifest, verified=False, parity={}, device=UNKNOWN_DEVICE), folder)
        raise EngineError(
            f"The engine {folder} is out of tolerance on {device['name']}: {missed}. Do not use it there; build "
            "another precision, and report it."
        )
    parity = {name: figure.to_json() for name, figure in figures.items()}
    verified = replace(manifest, verified=True, parity=parity, device=device)
    write_manifest(verified, folder)
    return verified


def _measure(engine: Engine, rows: Arrays) -> dict[str, Parity]:
    """Compare at batches of 1, 2 and the largest, those that the profile takes."""
    contract, profile = engine.contract, engine.manifest.profile
    references, feeds = [], []
    for batch in _batches(profile):
        for index, (_, feed) in enumerate(adversarial_inputs(contract, batch, _SEED)):
            wanted = [row % len(next(iter(rows.values()))) for row in range(index * batch, (index + 1) * batch)]
            references.append({name: array[wanted] for name, array in rows.items()})
            feeds.append(feed)
    return measure(references, engine.run, feeds, contract)


def _batches(profile: Profile) -> list[int]:
    return [n for n in sorted({1, 2, profile.max_batch}) if profile.min_batch <= n <= profile.max_batch]


def _read(folder: Path, contract: GraphContract) -> Arrays:
    try:
        with np.load(folder / REFERENCES, allow_pickle=False) as stored:
            return {spec.name: stored[spec.name].astype(spec.dtype) for spec in contract.outputs}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EngineError(f"{folder / REFERENCES} is not readable ({error}); build the engine again.") from error


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float16) if array.dtype == np.float32 else array

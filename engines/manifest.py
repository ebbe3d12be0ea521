"""What an engine's folder holds, in `manifest.json`. Plain data: an edge box reads it with numpy alone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from outfitgan.contracts import GraphContract
from outfitgan.errors import EngineError, GraphError
from outfitgan.files import atomic_write, sha256_of

MANIFEST = "manifest.json"
FORMAT = 3
"""In formats 1 and 2, which are read too, nothing was unverified; in 1 the runtime was called `target`."""


@dataclass(frozen=True)
class Profile:
    """The batch sizes an engine accepts, and the one it is tuned for."""

    min_batch: int
    opt_batch: int
    max_batch: int


@dataclass(frozen=True)
class EngineManifest:
    """One engine: what it computes, from which graph, how, for what, and how well it agrees with the graph."""

    contract: GraphContract
    graph_sha256: str
    runtime: str  # onnxruntime, openvino, tensorrt, ...
    precision: str  # fp32, bf16, fp16, int8
    files: dict[str, str]  # file name -> SHA-256
    versions: dict[str, str]
    device: dict[str, str]  # name; compute_capability and driver on a GPU
    profile: Profile
    parity: dict[str, dict[str, float]]  # output -> figures, against onnxruntime on the graph
    key: str  # SHA-256 of everything that fixes the engine
    options: dict[str, Any] = field(default_factory=dict)  # the runtime's own choices
    details: dict[str, Any] = field(default_factory=dict)  # what the runtime records of what it built; see `profiles`
    verified: bool = True  # whether it has run, and agreed with its graph; see `engines.verification`

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """A plan's optimisation profiles, in its order; an engine that records none has one, `profile`."""
        return _profiles(self.details) or (self.profile,)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EngineManifest:
        """Rebuild a manifest from `to_json`; raise EngineError if it has another format."""
        try:
            if data["format"] not in (1, 2, FORMAT):
                raise EngineError(f"The engine's manifest has format {data['format']}, not {FORMAT}; build it again.")
            names = {"target": "runtime"} if data["format"] == 1 else {}
            fields = {names.get(name, name): value for name, value in data.items() if name != "format"}
            _check_types(fields)
            fields["contract"] = GraphContract.from_json(fields["contract"])
            fields["profile"] = Profile(**fields["profile"])
            return cls(**fields)
        except (AttributeError, KeyError, TypeError, ValueError, GraphError) as error:
            raise EngineError(f"The engine's manifest is not readable ({error}); build it again.") from error


def _check_types(fields: dict[str, Any]) -> None:
    """Raise ValueError if a field has another type than in `EngineManifest`, or `files` names no file of a folder."""
    for name in ("graph_sha256", "runtime", "precision", "key"):
        if not isinstance(fields[name], str):
            raise ValueError(f"{name} is not a text")
    for name in ("files", "versions", "device", "parity", "options", "details"):
        if not isinstance(fields.get(name, {}), dict):
            raise ValueError(f"{name} is not a table")
    if not isinstance(fields.get("verified", True), bool):
        raise ValueError("verified is neither true nor false")
    _profiles(fields.get("details", {}))
    if not fields["files"]:
        raise ValueError("it lists no file")
    for name, digest in fields["files"].items():
        if not name or name == ".." or Path(name).name != name:
            raise ValueError(f"{name!r} is not a file of the folder")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"{name} has no SHA-256")


def _profiles(details: dict[str, Any]) -> tuple[Profile, ...]:
    """Return the profiles in a manifest's details; raise TypeError if they are none."""
    return tuple(Profile(**profile) for profile in details.get("profiles", ()))


def write_manifest(manifest: EngineManifest, folder: Path) -> None:
    """Write `manifest.json` into an engine's folder."""
    atomic_write(folder / MANIFEST, (json.dumps(manifest.to_json(), indent=2) + "\n").encode())


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder but its manifest."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    return {path.name: sha256_of(path) for path in files}


def parse_manifest(folder: Path) -> EngineManifest:
    """Read a folder's manifest, without a look at its files; raise EngineError if it is missing or not readable."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineError(f"There is no engine in {folder} ({error.strerror}); build it first.") from error
    except ValueError as error:
        raise EngineError(f"{path} is not JSON ({error}); build the engine again.") from error
    if not isinstance(data, dict):
        raise EngineError(f"{path} is not a manifest; build the engine again.")
    return EngineManifest.from_json(data)


def read_manifest(folder: Path) -> EngineManifest:
    """Read a folder's manifest and check every file against it; raise EngineError if anything is amiss."""
    manifest = parse_manifest(folder)
    found = hash_files(folder)
    for name, expected in manifest.files.items():
        if name not in found:
            raise EngineError(f"The engine {folder} lacks its file {name}; build it again.")
        if found[name] != expected:
            raise EngineError(
                f"{folder / name} was altered after the build (its SHA-256 differs); build the engine again."
            )
    if unlisted := sorted(set(found) - set(manifest.files)):
        raise EngineError(
            f"The engine {folder} holds {', '.join(unlisted)}, which its manifest does not list; build it again."
        )
    return manifest

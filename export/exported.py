"""An exported graph on disk: the ONNX file and the JSON sidecar that describes it. Needs neither torch nor onnx."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outfitgan.contracts import GraphContract
from outfitgan.errors import GraphError
from outfitgan.files import atomic_write, sha256_of
from outfitgan.model_graphs import GENERATOR

BASES = {"fp32": "fp32", "fp16": "fp16", "int8": "fp32", "int8-fp16": "fp16"}
"""Precision of a graph -> that of what it does not round to INT8; bf16 is an engine's way to run an FP32 graph."""

PRECISIONS = tuple(BASES)

FLOATS = ("fp32", "fp16")
"""The precisions that need no outfits to calibrate on."""

CALIBRATED = ("int8", "int8-fp16")
"""Those that do."""

FORMS = ("standard", "portable")
"""How a graph is written: with the correlation as one node, or in operators that older parsers read too."""


@dataclass(frozen=True)
class ExportedGraph:
    """One graph in one precision."""

    path: Path  # the .onnx file
    contract: GraphContract
    precision: str
    sha256: str  # of the .onnx file
    weights_sha256: str  # of the FP32 weights it was exported from
    parity: dict[str, dict[str, float]]  # output -> figures, onnxruntime against torch in FP32
    versions: dict[str, str]
    calibration: dict[str, Any] = field(default_factory=dict)  # of an INT8 graph: on what its ranges rest
    form: str = "standard"  # one of FORMS

    @property
    def name(self) -> str:
        """The contract's name, as in generator_bag."""
        return self.contract.name

    def to_json(self) -> dict[str, Any]:
        """Return the sidecar's content."""
        return {
            "format": 1,
            "contract": self.contract.to_json(),
            "precision": self.precision,
            "sha256": self.sha256,
            "weights_sha256": self.weights_sha256,
            "parity": self.parity,
            "versions": self.versions,
            **({"calibration": self.calibration} if self.calibration else {}),
            **({"form": self.form} if self.form != "standard" else {}),
        }


def exported_precision(name: str, precision: str) -> str:
    """Return the precision of the graph called `name` in an export at `precision`: only what makes items is rounded.

    The SAM's graphs and the CCM are small, and their outputs are figures rather than pictures; a generator contains a
    SAM of its own.
    """
    return precision if name.startswith(GENERATOR) else BASES[precision]


def graph_path(folder: Path, name: str, precision: str) -> Path:
    """Return where the graph called `name` lies in `folder`."""
    return folder / f"{name}.{precision}.onnx"


def save_sidecar(graph: ExportedGraph) -> None:
    """Write the JSON beside the graph's file."""
    atomic_write(graph.path.with_suffix(".json"), (json.dumps(graph.to_json(), indent=2) + "\n").encode())


def load_graph(path: Path) -> ExportedGraph:
    """Read a graph's sidecar and check the file against it; raise GraphError if either is missing or altered."""
    sidecar = path.with_suffix(".json")
    try:
        data = json.loads(sidecar.read_text(encoding="utf-8"))
        actual = sha256_of(path)
    except OSError as error:
        raise GraphError(f"Cannot read {error.filename}: {error.strerror}; export the graph again.") from error
    except ValueError as error:
        raise GraphError(f"{sidecar} is not JSON ({error}); export the graph again.") from error
    try:
        graph = ExportedGraph(
            path=path,
            contract=GraphContract.from_json(data["contract"]),
            precision=data["precision"],
            sha256=data["sha256"],
            weights_sha256=data["weights_sha256"],
            parity=data["parity"],
            versions=data["versions"],
            calibration=data.get("calibration", {}),
            form=data.get("form", "standard"),
        )
    except (KeyError, TypeError) as error:
        raise GraphError(f"{sidecar} is not a graph's sidecar ({error}); export the graph again.") from error
    if actual != graph.sha256:
        raise GraphError(f"{path} was altered after its export (its SHA-256 differs); export the graph again.")
    return graph


def save_index(folder: Path, precision: str, graphs: Sequence[ExportedGraph], origin: str) -> None:
    """Write what one whole export holds, after its last graph; `origin` names the weights it came from."""
    content = {"origin": origin, "graphs": {graph.name: graph.sha256 for graph in graphs}}
    atomic_write(_index_path(folder, precision), (json.dumps(content, indent=2) + "\n").encode())


def drop_index(folder: Path, precision: str) -> None:
    """Forget the last whole export before the first graph of the next one is written."""
    _index_path(folder, precision).unlink(missing_ok=True)


def find_graphs(folder: Path, precision: str, origin: str | None = None) -> dict[str, ExportedGraph]:
    """Return the graphs of one whole export by name.

    Raises:
        GraphError: if there is none, it was not finished or was altered, or it came from other weights than `origin`.

    """
    if precision not in PRECISIONS:
        raise GraphError(f"There is no graph precision '{precision}'; choose from {', '.join(PRECISIONS)}.")
    try:
        index = json.loads(_index_path(folder, precision).read_text(encoding="utf-8"))
        listed, written_from = dict(index["graphs"]), index["origin"]
    except OSError as error:
        raise GraphError(f"There is no finished {precision} export in {folder}; export the run first.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise GraphError(f"{_index_path(folder, precision)} is not readable; export the run again.") from error
    if origin is not None and written_from != origin:
        raise GraphError(f"The {precision} graphs in {folder} are of an earlier checkpoint; export the run again.")
    graphs = {name: load_graph(graph_path(folder, name, exported_precision(name, precision))) for name in listed}
    if altered := [name for name, graph in graphs.items() if graph.sha256 != listed[name]]:
        raise GraphError(f"{', '.join(altered)} in {folder} are of another export; export the run again.")
    return graphs


def _index_path(folder: Path, precision: str) -> Path:
    return folder / f"graphs.{precision}.json"

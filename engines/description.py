"""An engine in words and tables that a person can read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.manifest import EngineManifest

LAYER_COLUMNS = ("kernel", "computes", "reads", "writes")

_KERNELS = {"correlation": "convolution", "kgen": "fused elementwise", "runtime_fusion": "fused convolution"}
"""TensorRT's word for a kind of layer -> the field's."""

_TYPES = {"Half": "fp16", "Float": "fp32", "BFloat16": "bf16"}
"""TensorRT's word for a type -> ours; others in small letters."""

_SHOWN = 3


def describe(folder: Path, manifest: EngineManifest) -> dict[str, str]:
    """Return what an engine is, a line a fact."""
    contract, profile, details = manifest.contract, manifest.profile, manifest.details
    facts = {
        "graph": f"{contract.name}, SHA-256 {manifest.graph_sha256[:12]}",
        "takes": ", ".join(f"{spec.name} {spec.dtype} {_shape(spec.shape)}" for spec in contract.inputs),
        "gives": ", ".join(f"{spec.name} {spec.dtype} {_shape(spec.shape)}" for spec in contract.outputs),
        "runtime": f"{manifest.runtime} {manifest.precision}, {_pairs(manifest.versions)}",
        "batches": f"{profile.min_batch} to {profile.max_batch}, tuned for {profile.opt_batch}",
        "files": ", ".join(f"{name} {(folder / name).stat().st_size:,} bytes" for name in manifest.files),
        "options": _pairs(manifest.options) or "none",
        "verified": _verified(manifest),
    }
    if activations := details.get("activation_bytes"):
        facts["activation memory"] = f"{activations / 1e6:.0f} MB at batch {profile.max_batch}"
    if "fused_correlations" in details:
        facts["correlations"] = f"{details['fused_correlations']} fused"
    if isinstance(kinds := details.get("layers"), dict):
        facts["layers"] = ", ".join(f"{count} {_KERNELS.get(kind, kind)}" for kind, count in sorted(kinds.items()))
    for output, figures in manifest.parity.items():
        facts[f"parity of {output}"] = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return facts


def layer_rows(manifest: EngineManifest) -> list[tuple[str, ...]]:
    """Return a row of LAYER_COLUMNS for each layer of a plan; none where the runtime does not tell them."""
    return [
        (
            "fused attention" if "mha" in layer["name"] else _KERNELS.get(layer["kind"], layer["kind"]),
            _nodes(layer["nodes"]),
            ", ".join(map(_tensor, layer["inputs"])),
            ", ".join(map(_tensor, layer["outputs"])),
        )
        for layer in manifest.details.get("layer_table", ())
    ]


def _nodes(nodes: list[str]) -> str:
    names = list(dict.fromkeys(_node(name) for name in nodes))
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def _node(name: str) -> str:
    """Return a node's name, or the function whose body it is in: `inner | node (Function)`."""
    function = re.fullmatch(r".* \((\w+)\)", name)
    return function[1] if function else name.removeprefix("node_").lstrip("_")


def _tensor(text: str) -> str:
    dtype, _, shape = text.partition(" ")
    return f"{_TYPES.get(dtype, dtype.lower())} {shape}"


def _verified(manifest: EngineManifest) -> str:
    return f"on {manifest.device['name']}" if manifest.verified else "no ('outfitgan verify')"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {'+'.join(value) if isinstance(value, list) else value}" for name, value in values.items()
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

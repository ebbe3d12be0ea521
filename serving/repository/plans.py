"""Which plans go into one repository: of the same graphs, for one TensorRT, each set for another GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.manifest import EngineManifest
from engines.registry import device_fields
from engines.tensorrt.tensorrt_runtime import TensorrtRuntime, runs_on
from outfitgan.errors import EngineError

Manifests = Mapping[str, EngineManifest]
"""Graph name -> its engine's manifest."""


def check_plans(sets: Sequence[Manifests], server: str) -> None:
    """Check sets of plans, each for one GPU, before they are put beside each other.

    Args:
        sets: the first is for every GPU that none of the others is for.
        server: the TensorRT that is to run them, empty if it is not known.

    Raises:
        EngineError: if a server could not run one of them, or could not tell for which GPU it is.

    """
    for manifests in sets:
        _require_tensorrt(manifests)
        _require_one_gpu(manifests)
        _require_same_graphs(sets[0], manifests)
    _require_versions([manifest for manifests in sets for manifest in manifests.values()], server)
    names: dict[str, str] = {}
    for manifests in sets:
        device = next(iter(manifests.values())).device
        capability = device["compute_capability"]
        if capability in names:
            raise EngineError(
                f"A server tells GPUs apart by their compute capability, and {names[capability]} and {device['name']} "
                f"both have {capability}: take the plans of one of them, built with hardware=same_compute_capability."
            )
        names[capability] = device["name"]


def _require_tensorrt(manifests: Manifests) -> None:
    for name, manifest in manifests.items():
        if manifest.runtime != "tensorrt":
            raise EngineError(f"{name} is for {manifest.runtime}: only engines for tensorrt go beside others.")
        if "tensorrt" not in manifest.versions or not {"name", "compute_capability"} <= set(manifest.device):
            raise EngineError(f"The manifest of {name} does not say of which TensorRT and GPU it is: build it again.")


def _require_one_gpu(manifests: Manifests) -> None:
    found = {
        name: tuple(device_fields(manifest.device, TensorrtRuntime().required_device_fields(manifest.options)).values())
        for name, manifest in manifests.items()
    }
    if len(set(found.values())) > 1:
        listing = "; ".join(f"{name}: {' '.join(gpu) or 'any'}" for name, gpu in found.items())
        raise EngineError(f"The plans of one set must be for one GPU, not several ({listing}): build them alike.")


def _require_same_graphs(first: Manifests, other: Manifests) -> None:
    if missing := sorted(set(first) ^ set(other)):
        raise EngineError(f"{', '.join(missing)} has no plan for every GPU: build all graphs of the run on each.")
    for name, manifest in other.items():
        if manifest.graph_sha256 != first[name].graph_sha256:
            raise EngineError(
                f"{name} for {manifest.device['name']} is of another export than for {first[name].device['name']}: "
                "build both from the same graphs."
            )
        if manifest.profiles != first[name].profiles:
            raise EngineError(
                f"The plans of {name} for {manifest.device['name']} and {first[name].device['name']} have different "
                "profiles, and a server has one list for both: build both with the same option profiles."
            )


def _require_versions(manifests: Sequence[EngineManifest], server: str) -> None:
    versions = sorted({manifest.versions["tensorrt"] for manifest in manifests})
    if len(versions) > 1:
        raise EngineError(
            f"One server has one TensorRT, and these plans are of {', '.join(versions)}: build them alike."
        )
    if server and not all(runs_on(manifest, server) for manifest in manifests):
        raise EngineError(
            f"The plans are of TensorRT {versions[0]}, which {server} does not run: build them with the server's own."
        )

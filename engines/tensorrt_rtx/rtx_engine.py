"""A plan of TensorRT for RTX on a GPU: it compiles kernels when it is loaded, and keeps them for the next time.

Held against the official bindings; no plan has been run by it here.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engines.manifest import EngineManifest
from engines.plan.api import Api
from engines.plan.runner import TensorrtEngine
from outfitgan.errors import EngineError
from outfitgan.files import atomic_write

if TYPE_CHECKING:
    import tensorrt_rtx as trt

_log = logging.getLogger(__name__)


def cache_file(folder: Path, manifest: EngineManifest) -> Path:
    """Return where the kernels compiled for an engine are kept: beside its folder, which never changes.

    By the name that the folder has in a store: while it is measured there, it has another.
    """
    parts = manifest.contract.name, manifest.runtime, manifest.precision, manifest.key[:12], "kernels"
    return folder.parent / ".".join(parts)


class RtxEngine(TensorrtEngine):
    """A plan with its runtime cache, which is read when the engine is opened and written when it is closed."""

    def __init__(
        self,
        plan_api: Api,  # TensorRT for RTX
        path: Path,  # the plan's file
        manifest: EngineManifest,  # of its folder
    ) -> None:
        self._kernels = cache_file(path.parent, manifest)
        self._config: trt.IRuntimeConfig | None = None
        super().__init__(plan_api, path, manifest)

    def _create_context(self) -> trt.IExecutionContext | None:
        if self._config is None:
            self._config = self._runtime_config()
        return self._deserialized.create_execution_context(self._config)

    @property
    def _deserialized(self) -> trt.ICudaEngine:
        return cast("trt.ICudaEngine", self._plan.engine)

    def _runtime_config(self) -> trt.IRuntimeConfig:
        options, config = self.manifest.options, self._deserialized.create_runtime_config()
        strategies = self._api.trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = getattr(strategies, options["specialization"].upper())
        graphs = self._api.trt.CudaGraphStrategy
        config.cuda_graph_strategy = (
            graphs.WHOLE_GRAPH_CAPTURE if options["cuda_graphs"] == "whole" else graphs.DISABLED
        )
        cache = config.create_runtime_cache()
        content = _read(self._kernels)
        if content and not cache.deserialize(content):  # of another GPU, driver or version: it stays empty
            _log.info("%s is not for this GPU and driver; kernels are compiled again.", self._kernels)
        config.set_runtime_cache(cache)
        return config

    def _release(self) -> None:
        try:
            self._save_kernels()
        finally:
            super()._release()

    def _drop_plan(self) -> None:
        self._config = None  # before the plan that it is of
        super()._drop_plan()

    def _save_kernels(self) -> None:
        """Write the cache; a folder that cannot be written, as on a server, costs compiling at the next start."""
        if self._config is None:
            return
        try:
            with self._gpu.current():
                content = bytes(self._config.get_runtime_cache().serialize())
            atomic_write(self._kernels, hashlib.sha256(content).digest() + content)
        except (EngineError, OSError) as error:  # after a fault of the GPU, which the run has raised, every call fails
            _log.info("The compiled kernels were not kept (%s).", error)


def _read(path: Path) -> bytes:
    """Return what a cache's file holds after its SHA-256, empty if there is none or it was altered."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    digest, kernels = content[:32], content[32:]
    if hashlib.sha256(kernels).digest() != digest:
        _log.warning("%s was altered (its SHA-256 differs); kernels are compiled again.", path)
        return b""
    return kernels

"""TensorRT for RTX on a GPU that computes with onnxruntime: what runs a plan, and nothing that builds one.

Plans are those of the real builder, which is on PyPI; `PLANS` says which graph each is of. It stands in for a GPU, and
says nothing of what a plan gives on one; `test_rtx_contract.py` holds its names against the official ones.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum, auto
from importlib.metadata import version
from typing import Any

import pycuda.driver
from tensorrt import run
from tensorrt.types import (  # noqa: F401 - what this project takes from the module
    DataType,
    ExecutionContextAllocationStrategy,
    IHostMemory,
    ILogger,
    IProfiler,
    IProgressMonitor,
    TensorIOMode,
    made,
    nptype,
)

__version__ = version("tensorrt-rtx-cu13")


@dataclass(frozen=True)
class Plan:
    """What a plan was built from."""

    graph: bytes
    shapes: dict[str, list[tuple[int, ...]]]


PLANS: dict[str, Plan] = {}
"""SHA-256 of a plan -> what it was built from."""

COMPILED: list[tuple[str, tuple[int, ...]]] = []
"""Each kernel compiled, that is, each shape that was in no cache."""


class CudaGraphStrategy(Enum):
    DISABLED = auto()
    WHOLE_GRAPH_CAPTURE = auto()


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY = auto()
    EAGER = auto()
    NONE = auto()


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = made(logger)
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        pycuda.driver.require_context()
        plan = PLANS.get(hashlib.sha256(serialized_engine).hexdigest())
        if plan is None:
            says = "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed."
            self._logger.log(ILogger.Severity.ERROR, says)
            return None
        return ICudaEngine({"profiles": [plan.shapes], "refittable": False}, plan.graph)


class ICudaEngine(run.ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: IRuntimeConfig | None = None) -> IExecutionContext:
        pycuda.driver.require_context()
        return IExecutionContext(self, runtime_config or IRuntimeConfig())


class IRuntimeConfig:
    made: list[IRuntimeConfig] = []  # noqa: RUF012 - what a test looks into

    def __init__(self) -> None:
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self._cache = IRuntimeCache()
        IRuntimeConfig.made.append(self)

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def get_runtime_cache(self) -> IRuntimeCache:
        return self._cache

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True


class IRuntimeCache:
    """Kernels for one kind of GPU and version: those of another are left alone."""

    def __init__(self) -> None:
        self.kernels: list[Any] = []

    def deserialize(self, blob: bytes) -> bool:
        pycuda.driver.require_context()
        content = json.loads(blob)
        if content["made"] != _here():
            return False
        self.kernels = content["kernels"]
        return True

    def serialize(self) -> IHostMemory:
        pycuda.driver.require_context()
        return IHostMemory(json.dumps({"made": _here(), "kernels": self.kernels}).encode())


class IExecutionContext(run.IExecutionContext):
    def __init__(self, engine: ICudaEngine, config: IRuntimeConfig) -> None:
        super().__init__(engine, ExecutionContextAllocationStrategy.STATIC)
        self._config = config

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        kernels = self._config.get_runtime_cache().kernels
        if [name, list(shape)] not in kernels:
            COMPILED.append((name, shape))
            kernels.append([name, list(shape)])
        return super().set_input_shape(name, shape)


def _here() -> str:
    return f"{pycuda.driver.NAME} {pycuda.driver.CAPABILITY} {pycuda.driver.DRIVER} {__version__}"

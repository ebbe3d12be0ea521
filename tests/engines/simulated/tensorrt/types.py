"""The enumerations and base classes."""

from __future__ import annotations

import weakref
from enum import Enum, auto
from typing import Any

import numpy as np


class BuilderFlag(Enum):
    REFIT = auto()
    TF32 = auto()
    VERSION_COMPATIBLE = auto()


class DataType(Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT8 = "int8"
    BF16 = "bfloat16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    BOOL = "bool"


class ExecutionContextAllocationStrategy(Enum):
    STATIC = auto()
    ON_PROFILE_CHANGE = auto()


class HardwareCompatibilityLevel(Enum):
    NONE = auto()
    AMPERE_PLUS = auto()
    SAME_COMPUTE_CAPABILITY = auto()


class LayerInformationFormat(Enum):
    JSON = auto()


class LayerType(Enum):
    CONVOLUTION = auto()
    DECONVOLUTION = auto()
    PLUGIN_V3 = auto()
    OTHER = auto()


class MemoryPoolType(Enum):
    WORKSPACE = auto()


class NetworkDefinitionCreationFlag(Enum):
    STRONGLY_TYPED = 1

    def __int__(self) -> int:
        return self.value


class ProfilingVerbosity(Enum):
    LAYER_NAMES_ONLY = auto()
    DETAILED = auto()


class SerializationFlag(Enum):
    INCLUDE_REFIT = auto()


class TensorFormat(Enum):
    LINEAR = auto()
    HWC = auto()
    HWC8 = auto()


class TensorIOMode(Enum):
    INPUT = auto()
    OUTPUT = auto()


class _Base:
    """Like a class of pybind11's, unusable if its constructor is left out."""

    _made = False

    def __init__(self) -> None:
        self._made = True


class ILogger(_Base):
    class Severity(Enum):
        INTERNAL_ERROR = auto()
        ERROR = auto()
        WARNING = auto()
        INFO = auto()
        VERBOSE = auto()

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


_registered: list[weakref.ref[ILogger]] = []


def registered(logger: ILogger) -> ILogger:
    """Return the process's logger: the first one given, which TensorRT keeps no reference to; others are ignored."""
    if not _registered:
        _registered.append(weakref.ref(made(logger)))
    first = _registered[0]()
    assert first is not None, "TensorRT calls a logger that was freed"
    if made(logger) is not first:
        first.log(ILogger.Severity.WARNING, "The logger passed into this differs from one already registered.")
    return first


class IProfiler(_Base):
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class IProgressMonitor(_Base):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class IHostMemory:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.nbytes = len(content)

    def __bytes__(self) -> bytes:
        return self._content


Dims = tuple


def made(value: Any) -> Any:
    """Refuse what pybind11 would."""
    if not value._made:
        raise TypeError(f"{type(value).__name__}.__init__() must be called when overriding __init__")
    return value


def nptype(trt_type: DataType) -> type[np.generic]:
    return np.dtype(trt_type.value).type

"""The calls of cuda-bindings that this project makes: CUDA graphs over the simulated streams."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pycuda.driver import STREAMS

GRAPHS: set[int] = set()


class CUresult(Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1


class CUstreamCaptureMode(Enum):
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = auto()


class CUstream:
    def __init__(self, handle: int) -> None:
        self.stream = STREAMS[handle]


_OK = CUresult.CUDA_SUCCESS


def cuStreamBeginCapture(stream: CUstream, mode: CUstreamCaptureMode) -> tuple[CUresult]:  # noqa: N802
    stream.stream.recording = []
    return (_OK,)


def cuStreamEndCapture(stream: CUstream) -> tuple[CUresult, Any]:  # noqa: N802
    recorded, stream.stream.recording = stream.stream.recording, None
    return (_OK, recorded) if recorded else (CUresult.CUDA_ERROR_INVALID_VALUE, None)


def cuGraphInstantiate(graph: list[Any], flags: int) -> tuple[CUresult, Any]:  # noqa: N802
    executable = list(graph)
    GRAPHS.add(id(executable))
    return _OK, executable


def cuGraphLaunch(executable: list[Any], stream: CUstream) -> tuple[CUresult]:  # noqa: N802
    assert id(executable) in GRAPHS
    for work in executable:
        stream.stream.put(work)
    return (_OK,)


def cuGraphDestroy(graph: list[Any]) -> tuple[CUresult]:  # noqa: N802
    graph.clear()
    return (_OK,)


def cuGraphExecDestroy(executable: list[Any]) -> tuple[CUresult]:  # noqa: N802
    GRAPHS.remove(id(executable))
    return (_OK,)

"""The calls of PyCUDA that this project makes, on host memory; what is put on a stream runs when it is synchronised.

As strict as the real one where its sources say so: every call wants the context, and memory is freed once.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable

import numpy as np

NAME, CAPABILITY, DRIVER = "Simulated GPU", (9, 0), 13000
STREAMS: dict[int, Stream] = {}
ALLOCATED: set[int] = set()

_contexts: list[Context] = []
_handles = itertools.count(1)


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class LogicError(Error):
    pass


def depth() -> int:
    """Return how many contexts are pushed."""
    return len(_contexts)


def require_context() -> None:
    if not _contexts:
        raise LogicError("invalid device context - no currently active context?")


class Context:
    def push(self) -> None:
        _contexts.append(self)

    @staticmethod
    def pop() -> None:
        _contexts.pop()


class Device:
    def __init__(self, number: int) -> None:
        assert number == 0

    @staticmethod
    def count() -> int:
        return 1

    def name(self) -> str:
        return NAME

    def compute_capability(self) -> tuple[int, int]:
        return CAPABILITY

    def retain_primary_context(self) -> Context:
        return Context()


class Stream:
    def __init__(self) -> None:
        require_context()
        self.handle = next(_handles)
        self.work: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        STREAMS[self.handle] = self

    def put(self, work: Callable[[], None]) -> None:
        (self.work if self.recording is None else self.recording).append(work)

    def synchronize(self) -> None:
        require_context()
        if self.recording is not None:
            raise LogicError("operation not permitted when stream is capturing")
        while self.work:
            self.work.pop(0)()


class Event:
    def __init__(self) -> None:
        self.moment = -1.0

    def record(self, stream: Stream | None = None) -> Event:
        assert stream is not None

        def mark() -> None:
            self.moment = float(next(_handles))

        self._stream = stream
        stream.put(mark)
        return self

    def synchronize(self) -> Event:
        self._stream.synchronize()
        return self

    def time_till(self, other: Event) -> float:
        assert self.moment >= 0
        assert other.moment >= 0
        return other.moment - self.moment


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._memory = ctypes.create_string_buffer(b"\xcd" * size, size)  # never the zeros that would pass for a result
        ALLOCATED.add(int(self))

    def __int__(self) -> int:
        return ctypes.addressof(self._memory)

    def free(self) -> None:
        require_context()
        ALLOCATED.remove(int(self))


def init(flags: int = 0) -> None:
    pass


def get_driver_version() -> int:
    return DRIVER


def mem_alloc(bytes: int) -> DeviceAllocation:
    require_context()
    if bytes > 1 << 30:
        raise MemoryError("cuMemAlloc failed: out of memory")
    return DeviceAllocation(bytes)


def pagelocked_empty(shape: tuple[int, ...], dtype: np.dtype, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    require_context()
    return np.full(shape, 77, dtype, order)


def memcpy_htod_async(dest: DeviceAllocation, src: np.ndarray, stream: Stream | None = None) -> None:
    require_context()
    assert stream is not None
    assert src.flags.c_contiguous
    stream.put(lambda: _move(int(dest), src.ctypes.data, src.nbytes))


def memcpy_dtoh_async(dest: np.ndarray, src: DeviceAllocation, stream: Stream | None = None) -> None:
    require_context()
    assert stream is not None
    assert dest.flags.c_contiguous
    stream.put(lambda: _move(dest.ctypes.data, int(src), dest.nbytes))


def _move(to: int, start: int, size: int) -> None:
    ctypes.memmove(to, start, size)

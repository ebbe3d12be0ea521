"""The GPU through PyCUDA: its name, memory on both sides of the bus, and CUDA graphs through cuda-bindings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import EngineError


def cuda_driver() -> ModuleType:
    """Return `pycuda.driver` with the driver initialised; raise EngineError where no GPU can be used."""
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        raise EngineError(
            f"Running TensorRT's plans needs the package {error.name}; pip install pycuda, beside a CUDA toolkit."
        ) from error
    except ImportError as error:  # PyCUDA is there and libcuda.so.1 is not
        raise EngineError(f"There is no NVIDIA driver here ({error}); install one, or take a CPU runtime.") from error
    try:
        pycuda.driver.init()
        count = pycuda.driver.Device.count()
    except pycuda.driver.Error as error:
        raise EngineError(f"The NVIDIA driver does not start ({error}); check it with nvidia-smi.") from error
    if not count:
        raise EngineError("The NVIDIA driver shows no GPU; check CUDA_VISIBLE_DEVICES and nvidia-smi.")
    return pycuda.driver


def gpu() -> dict[str, str]:
    """Return the first GPU's name and compute capability, and the CUDA version its driver is for."""
    driver = cuda_driver()
    device, version = driver.Device(0), driver.get_driver_version()
    return {
        "name": device.name(),
        "compute_capability": ".".join(map(str, device.compute_capability())),
        "driver": f"{version // 1000}.{version % 1000 // 10}",
    }


class Gpu:
    """The first GPU's primary context, which is also TensorRT's."""

    def __init__(self) -> None:
        self.driver = cuda_driver()
        self._context = self.driver.Device(0).retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread; an error of CUDA's becomes an EngineError."""
        self._context.push()
        try:
            yield
        except self.driver.MemoryError as error:
            raise EngineError(f"The GPU is out of memory ({error}); free some, or build a smaller batch.") from error
        except self.driver.Error as error:
            raise EngineError(f"The GPU failed ({error}); start the program again.") from error
        finally:
            self._context.pop()


class Buffer:
    """One tensor in pinned host memory and in device memory, as large as its largest batch."""

    def __init__(
        self,
        driver: ModuleType,  # pycuda.driver
        shape: tuple[int, ...],  # at the largest batch, which comes first
        dtype: str,  # a numpy name
    ) -> None:
        self._driver = driver
        self.host: NDArray[Any] = driver.pagelocked_empty(shape, np.dtype(dtype))
        self._device = driver.mem_alloc(self.host.nbytes)

    @property
    def address(self) -> int:
        """The device memory's address."""
        return int(self._device)

    def upload(self, batch: int, stream: Any) -> None:
        """Copy the first `batch` rows to the device, in the order of `stream`."""
        self._driver.memcpy_htod_async(self._device, self.host[:batch], stream)

    def download(self, batch: int, stream: Any) -> None:
        """Copy the first `batch` rows from the device, in the order of `stream`."""
        self._driver.memcpy_dtoh_async(self.host[:batch], self._device, stream)

    def free(self) -> None:
        """Free the device memory; the host's goes with the last array that refers to it."""
        self._device.free()


class CudaGraph:
    """What `record` puts on a stream, recorded once; PyCUDA has no graphs, so cuda-bindings records the same stream."""

    def __init__(
        self,
        stream: Any,  # pycuda.driver.Stream
        record: Callable[[], None],  # puts the work on it
    ) -> None:
        cuda = self._cuda = _graph_bindings()
        self._stream = cuda.CUstream(stream.handle)
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._value(cuda.cuStreamBeginCapture(self._stream, mode))
        try:
            record()
        except BaseException:
            cuda.cuStreamEndCapture(self._stream)  # a stream that still records can do nothing else
            raise
        graph = self._value(cuda.cuStreamEndCapture(self._stream))
        self._executable = self._value(cuda.cuGraphInstantiate(graph, 0))
        self._value(cuda.cuGraphDestroy(graph))

    def launch(self) -> None:
        """Put everything recorded on the stream, in one call."""
        self._value(self._cuda.cuGraphLaunch(self._executable, self._stream))

    def destroy(self) -> None:
        """Free the graph's memory."""
        self._value(self._cuda.cuGraphExecDestroy(self._executable))

    def _value(self, result: tuple[Any, ...]) -> Any:
        error, *values = result
        if error != self._cuda.CUresult.CUDA_SUCCESS:
            raise EngineError(f"The CUDA graph failed ({error.name}); run without capturing.")
        return values[0] if values else None


def _graph_bindings() -> Any:
    try:
        from cuda.bindings import driver
    except ModuleNotFoundError as error:
        raise EngineError("CUDA graphs need the package cuda-bindings; pip install 'outfitgan[gpu]'.") from error
    return driver

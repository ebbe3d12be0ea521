"""One execution context of a plan, with a stream and memory for every tensor at its largest batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engines.manifest import EngineManifest
from engines.plan.api import Api
from engines.plan.cuda import Buffer, CudaGraph, Gpu
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError, InputError

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger(__name__)


class ExecutionContext:
    """TensorRT's execution context with its own stream and buffers, for one thread; a plan may have several."""

    def __init__(
        self,
        gpu: Gpu,  # that the plan was loaded on
        plan_api: Api,  # that loaded it
        create: Callable[[], trt.IExecutionContext | None],  # of TensorRT's context of the plan
        manifest: EngineManifest,  # whose contract and profile size the buffers
    ) -> None:
        self._gpu, self._manifest, self._api, self._log = gpu, manifest, plan_api, plan_api.log
        self._graph: CudaGraph | None = None
        self._graph_batch = 0
        self._closed = False
        contract, largest = manifest.contract, manifest.profile.max_batch
        with gpu.current():
            context = create()
            if context is None:
                reason = self._log.reason()
                raise EngineError(f"{plan_api.title} gives {contract.name} no context ({reason}); free GPU memory.")
            self._context = context
            self._stream = gpu.driver.Stream()
            self._inputs = {s.name: Buffer(gpu.driver, (largest, *s.shape), s.dtype) for s in contract.inputs}
            self._outputs = {s.name: Buffer(gpu.driver, (largest, *s.shape), s.dtype) for s in contract.outputs}
            for name, buffer in (self._inputs | self._outputs).items():
                context.set_tensor_address(name, buffer.address)

    def run(self, feeds: Arrays) -> Arrays:
        """Return the outputs of checked feeds, as arrays of the caller's own.

        Raises:
            InputError: if the batch is outside the engine's profile.
            EngineError: if the GPU fails.

        """
        with self._gpu.current():
            batch = self._fill(feeds)
            if self._graph:
                self._graph.launch()
            else:
                self._enqueue_run(batch)
            self._stream.synchronize()
            return {name: np.array(buffer.host[:batch]) for name, buffer in self._outputs.items()}

    def capture(self, batch: int) -> None:
        """Record a whole run at `batch` as a CUDA graph, which the next runs at that batch launch.

        Raises:
            InputError: if the batch is outside the engine's profile.
            EngineError: if cuda-bindings is not installed or the run cannot be recorded.

        """
        self._check(batch)
        with self._gpu.current():
            self._drop_graph()
            self._enqueue_run(batch)  # what TensorRT does once for a new shape cannot be recorded
            self._stream.synchronize()
            self._graph, self._graph_batch = CudaGraph(self._stream, lambda: self._enqueue_run(batch)), batch

    def layer_times(self, feeds: Arrays) -> dict[str, float]:
        """Return each layer's milliseconds in one run after a warm-up, on the device; profiled, a run is slower."""
        times = self._api.layer_times()
        with self._gpu.current():
            batch = self._fill(feeds)
            self._enqueue_run(batch)
            self._stream.synchronize()
            self._context.profiler = times
            try:
                self._enqueue_run(batch)
                self._stream.synchronize()
            finally:
                self._context.profiler = None
        return dict(times.milliseconds)

    def compute_times(self, feeds: Arrays, repeats: int) -> list[float]:
        """Return the milliseconds between two events around the plan alone, without copies, for each repeat."""
        driver, times = self._gpu.driver, []
        with self._gpu.current():
            batch = self._fill(feeds)
            self._enqueue_run(batch)
            for _ in range(repeats):
                start, end = driver.Event(), driver.Event()
                start.record(self._stream)
                self._enqueue()
                end.record(self._stream)
                end.synchronize()
                times.append(float(start.time_till(end)))
        return times

    def close(self) -> None:
        """Free all memory; the context cannot run any more, and a second call does nothing.

        After a fault of the GPU every call fails with it: that is logged here, for the run has raised it already.
        """
        if self._closed:
            return
        self._closed = True
        frees = [buffer.free for buffer in (self._inputs | self._outputs).values()]
        with self._gpu.current():
            for release in (self._stream.synchronize, self._drop_graph, self._drop_context, *frees):
                try:
                    release()
                except (self._gpu.driver.Error, EngineError) as error:
                    _log.warning("%s: the GPU failed while it was closed: %s", self._manifest.contract.name, error)

    def _fill(self, feeds: Arrays) -> int:
        """Write checked feeds to the host's side and return their batch."""
        batch = next(iter(feeds.values())).shape[0]
        self._check(batch)
        if self._graph and batch != self._graph_batch:  # a context that has run another shape cannot launch it again
            name = self._manifest.contract.name
            _log.warning("%s had a CUDA graph for batch %d and runs %d without.", name, self._graph_batch, batch)
            self._drop_graph()
        for name, buffer in self._inputs.items():
            buffer.host[:batch] = feeds[name]
        return batch

    def _enqueue_run(self, batch: int) -> None:
        """Put a run on the stream: copies to the device, the plan, copies back."""
        for name, buffer in self._inputs.items():
            if not self._context.set_input_shape(name, (batch, *buffer.host.shape[1:])):
                raise EngineError(f"The plan refuses batch {batch} for {name} ({self._log.reason()}); build it again.")
            buffer.upload(batch, self._stream)
        self._enqueue()
        for buffer in self._outputs.values():
            buffer.download(batch, self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"{self._manifest.contract.name} does not run ({self._log.reason()}); build it again.")

    def _check(self, batch: int) -> None:
        profile = self._manifest.profile
        if not profile.min_batch <= batch <= profile.max_batch:
            raise InputError(
                f"{self._manifest.contract.name} was built for batches of {profile.min_batch} to {profile.max_batch}, "
                f"not {batch}; send less at a time, or build it for more."
            )

    def _drop_graph(self) -> None:
        if self._graph:
            graph, self._graph = self._graph, None
            graph.destroy()

    def _drop_context(self) -> None:
        del self._context

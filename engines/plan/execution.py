"""One execution context of a plan, with a stream and memory for every tensor at its largest batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engines.manifest import EngineManifest
from engines.plan.api import Api
from engines.plan.cuda import Buffer, CudaGraph, Gpu
from engines.plan.profile_context import ProfileContext
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError, InputError

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger(__name__)


class ExecutionContext:
    """A stream and buffers for one thread, and TensorRT's context for each profile; a plan may have several of these.

    TensorRT's contexts share the stream, and so the buffers: one runs at a time. The first is made at once, each
    other one when a batch of its profile comes.
    """

    def __init__(
        self,
        gpu: Gpu,  # that the plan was loaded on
        plan_api: Api,  # that loaded it
        create: Callable[[], trt.IExecutionContext | None],  # of a context of the plan
        manifest: EngineManifest,  # whose contract and profiles size the buffers
    ) -> None:
        self._gpu, self._manifest, self._api, self._log = gpu, manifest, plan_api, plan_api.log
        self._create_context, self._profiles = create, manifest.profiles
        self._contexts: dict[int, ProfileContext] = {}  # by the number of the profile
        self._closed = False
        contract, largest = manifest.contract, manifest.profile.max_batch
        with gpu.current():
            self._stream = gpu.driver.Stream()
            first = self._created(0)  # before the buffers: a plan that cannot run takes none
            self._inputs = {s.name: Buffer(gpu.driver, (largest, *s.shape), s.dtype) for s in contract.inputs}
            self._outputs = {s.name: Buffer(gpu.driver, (largest, *s.shape), s.dtype) for s in contract.outputs}
            self._contexts[0] = self._bound(first)

    def run(self, feeds: Arrays) -> Arrays:
        """Return the outputs of checked feeds, as arrays of the caller's own.

        Raises:
            InputError: if the batch is outside the engine's profiles.
            EngineError: if the GPU fails.

        """
        with self._gpu.current():
            batch, context = self._fill(feeds)
            if context.graph:
                context.graph.launch()
            else:
                self._enqueue_run(context, batch)
            self._stream.synchronize()
            return {name: np.array(buffer.host[:batch]) for name, buffer in self._outputs.items()}

    def capture(self, batch: int) -> None:
        """Record a whole run at `batch` as a CUDA graph, which the next runs at that batch launch.

        It stays until a run of another batch of the same profile; where each batch has a profile, that is for good.

        Raises:
            InputError: if the batch is outside the engine's profiles.
            EngineError: if cuda-bindings is not installed or the run cannot be recorded.

        """
        index = self._profile_of(batch)
        with self._gpu.current():
            context = self._context_of(index)
            context.drop_graph()
            context.set_batch(batch)
            self._enqueue_run(context, batch)  # what TensorRT does once for a new shape cannot be recorded
            self._stream.synchronize()
            context.graph = CudaGraph(self._stream, lambda: self._enqueue_run(context, batch))

    def layer_times(self, feeds: Arrays) -> dict[str, float]:
        """Return each layer's milliseconds in one run after a warm-up, on the device; profiled, a run is slower."""
        times = self._api.layer_times()
        with self._gpu.current():
            batch, context = self._fill(feeds)
            self._enqueue_run(context, batch)
            self._stream.synchronize()
            context.context.profiler = times
            try:
                self._enqueue_run(context, batch)
                self._stream.synchronize()
            finally:
                context.context.profiler = None
        return dict(times.milliseconds)

    def compute_times(self, feeds: Arrays, repeats: int) -> list[float]:
        """Return the milliseconds between two events around the plan alone, without copies, for each repeat."""
        driver, times = self._gpu.driver, []
        with self._gpu.current():
            batch, context = self._fill(feeds)
            self._enqueue_run(context, batch)
            for _ in range(repeats):
                start, end = driver.Event(), driver.Event()
                start.record(self._stream)
                context.enqueue(self._stream)
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
        contexts = self._contexts.values()
        releases = [self._stream.synchronize]
        releases += [drop for context in contexts for drop in (context.drop_graph, context.drop_context)]
        releases += [buffer.free for buffer in (self._inputs | self._outputs).values()]
        with self._gpu.current():
            for release in releases:
                try:
                    release()
                except (self._gpu.driver.Error, EngineError) as error:
                    _log.warning("%s: the GPU failed while it was closed: %s", self._manifest.contract.name, error)

    def _fill(self, feeds: Arrays) -> tuple[int, ProfileContext]:
        """Write checked feeds to the host's side; return their batch, and the context that is set for it."""
        batch = next(iter(feeds.values())).shape[0]
        context = self._context_of(self._profile_of(batch))
        context.set_batch(batch)
        for name, buffer in self._inputs.items():
            buffer.host[:batch] = feeds[name]
        return batch, context

    def _enqueue_run(self, context: ProfileContext, batch: int) -> None:
        """Put a run on the stream: copies to the device, the plan, copies back."""
        for buffer in self._inputs.values():
            buffer.upload(batch, self._stream)
        context.enqueue(self._stream)
        for buffer in self._outputs.values():
            buffer.download(batch, self._stream)

    def _profile_of(self, batch: int) -> int:
        for index, profile in enumerate(self._profiles):
            if profile.min_batch <= batch <= profile.max_batch:
                return index
        profile = self._manifest.profile
        raise InputError(
            f"{self._manifest.contract.name} was built for batches of {profile.min_batch} to {profile.max_batch}, "
            f"not {batch}; send less at a time, or build it for more."
        )

    def _context_of(self, index: int) -> ProfileContext:
        """Return the context of a profile, made on demand."""
        if index not in self._contexts:
            self._contexts[index] = self._bound(self._created(index))
        return self._contexts[index]

    def _created(self, index: int) -> trt.IExecutionContext:
        """Return a new context at a profile."""
        context, name = self._create_context(), self._manifest.contract.name
        if context is None:
            reason = self._log.reason()
            raise EngineError(f"{self._api.title} gives {name} no context ({reason}); free GPU memory.")
        several = len(self._profiles) > 1  # the only one is selected already
        if several and not context.set_optimization_profile_async(index, self._stream.handle):
            raise EngineError(f"The plan of {name} has no profile {index} ({self._log.reason()}); build it again.")
        return context

    def _bound(self, context: trt.IExecutionContext) -> ProfileContext:
        """Tell a new context where the tensors are."""
        for name, buffer in (self._inputs | self._outputs).items():
            context.set_tensor_address(name, buffer.address)
        contract = self._manifest.contract
        return ProfileContext(context, contract.name, {spec.name: spec.shape for spec in contract.inputs}, self._log)

"""TensorRT's context of one optimisation profile: the batch that its shapes are of, and a run at it as a CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engines.plan.cuda import CudaGraph
from engines.plan.log import Log
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

_log = logging.getLogger(__name__)


class ProfileContext:
    """What runs the batches of one profile.

    A plugin compiled ahead of time leaks GPU memory when its context changes its shapes (NVIDIA/TensorRT issue 4849).
    So they are set when another batch comes, and never where a profile is of one batch.
    """

    def __init__(
        self,
        context: trt.IExecutionContext,  # at its profile, with the address of every tensor
        name: str,  # the graph's
        inputs: Mapping[str, tuple[int, ...]],  # name -> shape without the batch
        log: Log,  # TensorRT's
    ) -> None:
        self.context = context
        self.graph: CudaGraph | None = None  # of a whole run at the batch of the shapes
        self._name, self._inputs, self._log = name, inputs, log
        self._batch = 0  # 0: no shapes yet

    def set_batch(self, batch: int) -> None:
        """Give the inputs the shapes of a batch; raise EngineError if the plan refuses it.

        A graph of another batch goes: a context that has other shapes cannot launch it again.
        """
        if batch == self._batch:
            return
        if self.graph:
            _log.warning("%s had a CUDA graph for batch %d and runs %d without.", self._name, self._batch, batch)
            self.drop_graph()
        self._batch = 0
        for name, shape in self._inputs.items():
            if not self.context.set_input_shape(name, (batch, *shape)):
                raise EngineError(f"The plan refuses batch {batch} for {name} ({self._log.reason()}); build it again.")
        self._batch = batch

    def enqueue(self, stream: Any) -> None:
        """Put the plan on a stream, without copies; raise EngineError if TensorRT does not take it."""
        if not self.context.execute_async_v3(stream.handle):
            raise EngineError(f"{self._name} does not run ({self._log.reason()}); build it again.")

    def drop_graph(self) -> None:
        """Free the graph, if there is one."""
        if self.graph:
            graph, self.graph = self.graph, None
            graph.destroy()

    def drop_context(self) -> None:
        """Free TensorRT's context; nothing runs any more."""
        del self.context

"""The runner of a plan: numpy, TensorRT (either) and PyCUDA, nothing else; CUDA graphs where cuda-bindings is there.

Held against the official bindings of both; no plan has been run by it here.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Engine
from engines.manifest import EngineManifest
from engines.plan.api import Api
from engines.plan.cuda import Gpu
from engines.plan.execution import ExecutionContext
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Plan:
    """A plan in memory, with what must live as long as it does."""

    engine: trt.ICudaEngine
    runtime: trt.Runtime


def load_plan(plan_api: Api, plan: bytes, name: str, host_code: bool) -> Plan:
    """Deserialise a plan.

    Args:
        plan_api: the TensorRT that it is of.
        plan: the file's bytes.
        name: what an error calls it.
        host_code: whether the plan may bring code for the host, as version-compatible ones do: a matter of trust.

    Raises:
        EngineError: if TensorRT cannot start here or refuses the plan.

    """
    runtime: trt.Runtime = plan_api.started(plan_api.trt.Runtime)
    runtime.engine_host_code_allowed = host_code
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        reason = plan_api.log.reason()
        raise EngineError(f"{plan_api.title} refuses the plan of {name} ({reason}); build it again on this machine.")
    return Plan(engine, runtime)


class TensorrtEngine(Engine):
    """A plan on the first GPU. `run` serves one caller at a time; other threads use a `new_context` of their own."""

    def __init__(
        self,
        plan_api: Api,  # that the plan is of
        path: Path,  # the plan's file
        manifest: EngineManifest,  # of its folder
    ) -> None:
        super().__init__(manifest)
        self._gpu, self._api = Gpu(), plan_api
        with self._gpu.current():
            self._plan = load_plan(
                plan_api, path.read_bytes(), str(path), bool(manifest.options.get("version_compatible"))
            )
            _check_boundary(plan_api, self._plan.engine, manifest)
        self._contexts: list[ExecutionContext] = []
        self.main_context = self.new_context()

    def new_context(self) -> ExecutionContext:
        """Return a further execution context with its own stream and memory; it is closed with the engine."""
        context = ExecutionContext(self._gpu, self._api, self._create_context, self.manifest)
        self._contexts.append(context)
        return context

    def _create_context(self) -> trt.IExecutionContext | None:
        """Return a context of the plan, at no profile in particular; None if TensorRT gives none."""
        strategies = self._api.trt.ExecutionContextAllocationStrategy
        several = len(self.manifest.profiles) > 1  # a context each: then none takes the memory of the largest
        return self._plan.engine.create_execution_context(
            strategies.ON_PROFILE_CHANGE if several else strategies.STATIC
        )

    def _infer(self, feeds: Arrays) -> Arrays:
        return self.main_context.run(feeds)

    def _release(self) -> None:
        with ExitStack() as stack:  # whatever fails, the rest is released
            stack.callback(self._drop_plan)
            for context in self._contexts:
                stack.callback(context.close)
            self._contexts.clear()

    def _drop_plan(self) -> None:
        with self._gpu.current():
            del self.main_context, self._plan  # contexts before the plan, the plan before its runtime


def _check_boundary(plan_api: Api, engine: trt.ICudaEngine, manifest: EngineManifest) -> None:
    """Raise EngineError if a plan's inputs and outputs are not the contract's, batch axis included."""
    contract = manifest.contract
    modes = {plan_api.trt.TensorIOMode.INPUT: "takes", plan_api.trt.TensorIOMode.OUTPUT: "gives"}
    # Whether an axis that each profile fixes is still told as -1 is not documented.
    fixed = {profile.min_batch for profile in manifest.profiles if profile.min_batch == profile.max_batch}
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(plan_api.trt.nptype(engine.get_tensor_dtype(name))).name
        shape = tuple(engine.get_tensor_shape(name))
        shape = (-1, *shape[1:]) if shape[:1] and shape[0] in fixed else shape
        found[name] = (modes.get(engine.get_tensor_mode(name)), dtype, shape)
    expected = {spec.name: ("takes", spec.dtype, (-1, *spec.shape)) for spec in contract.inputs}
    expected |= {spec.name: ("gives", spec.dtype, (-1, *spec.shape)) for spec in contract.outputs}
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise EngineError(
                f"The plan of {contract.name} has {found.get(name, 'nothing')} as {name}, its manifest "
                f"{expected.get(name, 'nothing')}; build the engine again."
            )

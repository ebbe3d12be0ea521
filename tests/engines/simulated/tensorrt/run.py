"""The runtime: it opens the box and computes the graph in it with onnxruntime, on the addresses it is given."""

from __future__ import annotations

import ctypes
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from pycuda.driver import STREAMS

from tensorrt.build import SEAL, VERSION, ParserError, seal
from tensorrt.types import (
    DataType,
    ExecutionContextAllocationStrategy,
    IHostMemory,
    ILogger,
    IProfiler,
    LayerInformationFormat,
    SerializationFlag,
    TensorIOMode,
    made,
    registered,
)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = registered(logger)
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        start = len(SEAL) + 32
        content = serialized_engine[start:]
        if serialized_engine[:start] != SEAL + hashlib.sha256(content).digest():
            return self._refused("Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.")
        size = int.from_bytes(content[:4], "big")
        header = json.loads(content[4 : 4 + size])
        if header["host_code"] and not self.engine_host_code_allowed:
            return self._refused("Host code is not allowed.")
        if header["version"] != VERSION and not header["host_code"]:
            return self._refused("The engine plan file is not compatible with this version of TensorRT.")
        return ICudaEngine(header, content[4 + size :])

    def _refused(self, text: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, text)


class ICudaEngine:
    def __init__(self, header: dict[str, Any], content: bytes) -> None:
        self.header, self.content = header, content
        self.graph = onnx.ModelProto.FromString(content).graph
        self._tensors = [*self.graph.input, *self.graph.output]
        self._inputs = {info.name for info in self.graph.input}
        self.refittable = header["refittable"]

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        element = self._info(name).elem_type
        return DataType(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self._info(name).shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.header["profiles"][profile_index][name]]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self.header)

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> IExecutionContext:
        return IExecutionContext(self, strategy)

    def create_serialization_config(self) -> ISerializationConfig:
        return ISerializationConfig()

    def serialize_with_config(self, arg0: ISerializationConfig) -> IHostMemory:
        kept = self.refittable and SerializationFlag.INCLUDE_REFIT in arg0.flags
        return IHostMemory(seal({**self.header, "refittable": kept}, self.content))

    def _info(self, name: str) -> Any:
        return next(info for info in self._tensors if info.name == name).type.tensor_type


class ISerializationConfig:
    def __init__(self) -> None:
        self.flags: set[SerializationFlag] = set()

    def set_flag(self, flag: SerializationFlag) -> bool:
        self.flags.add(flag)
        return True


class EngineInspector:
    def __init__(self, header: dict[str, Any]) -> None:
        self._header = header

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        return json.dumps({"Layers": self._header["layers"]})


class IExecutionContext:
    """At the first profile until another is selected."""

    runs: list[list[int]] = []  # noqa: RUF012 - of each context, the batch of each run: where it changes, plugins leak
    strategies: list[ExecutionContextAllocationStrategy] = []  # noqa: RUF012 - of each context

    def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
        self._engine = engine
        self.profile = 0
        self._ran: list[int] = []
        IExecutionContext.runs.append(self._ran)
        IExecutionContext.strategies.append(strategy)
        self._session = onnxruntime.InferenceSession(engine.content, providers=["CPUExecutionProvider"])
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.profiler: IProfiler | None = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, self.profile)
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name] = shape
        return True

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle in STREAMS
        if not 0 <= profile_index < len(self._engine.header["profiles"]):
            return False
        self.profile = profile_index
        self._shapes.clear()
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        shapes = dict(self._shapes)
        self._ran.append(shapes[self._engine.graph.input[0].name][0])
        STREAMS[stream_handle].put(lambda: self._compute(shapes))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]]) -> None:
        assert shapes == self._shapes, "a CUDA graph was launched after the context had run another shape"
        feeds = {name: self._view(name, shape).copy() for name, shape in shapes.items()}
        names = [info.name for info in self._engine.graph.output]
        for name, array in zip(names, self._session.run(names, feeds), strict=True):
            self._view(name, array.shape)[...] = array
        if self.profiler:
            for node in self._engine.graph.node:
                made(self.profiler).report_layer_time(node.name, 0.5)

    def _view(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(self._engine.get_tensor_dtype(name).value)
        memory = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


class Refitter:
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
        self.engine, self.weights = engine, SimpleNamespace(model=b"")
        registered(logger)

    def get_missing_weights(self) -> list[str]:
        return []

    def refit_cuda_engine(self) -> bool:
        self.engine.content = self.weights.model
        return bool(self.weights.model)


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        self._refitter = refitter
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def refit_from_file(self, model: str) -> bool:
        loaded = onnx.load(model)
        if _weights(loaded.graph) != _weights(self._refitter.engine.graph):
            self._errors.append(ParserError("No weights of these names and shapes are in the engine."))
            return False
        self._refitter.weights.model = loaded.SerializeToString()
        return True


def _weights(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}

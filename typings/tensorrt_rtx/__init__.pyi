"""What this project uses of TensorRT for RTX: TensorRT's own names, and those below.

`tests/engines/test_rtx_contract.py` holds every name and signature here against the official bindings.
"""

import tensorrt
from tensorrt import BuilderFlag, IExecutionContext, INetworkDefinition, ProfilingVerbosity
from typing_extensions import Buffer

__all__ = ["BuilderFlag", "IExecutionContext", "INetworkDefinition", "ProfilingVerbosity"]
__version__: str

class ComputeCapability:
    SM75: ComputeCapability
    SM80: ComputeCapability
    SM86: ComputeCapability
    SM89: ComputeCapability
    SM120: ComputeCapability
    SM121: ComputeCapability

class CudaGraphStrategy:
    DISABLED: CudaGraphStrategy
    WHOLE_GRAPH_CAPTURE: CudaGraphStrategy

class DynamicShapesKernelSpecializationStrategy:
    EAGER: DynamicShapesKernelSpecializationStrategy
    LAZY: DynamicShapesKernelSpecializationStrategy
    NONE: DynamicShapesKernelSpecializationStrategy

class LayerType(tensorrt.LayerType):
    ATTENTION_INPUT: LayerType

class IAttention:
    decomposable: bool

class IAttentionInputLayer(tensorrt.ILayer):
    attention: IAttention

class IBuilderConfig(tensorrt.IBuilderConfig):
    num_compute_capabilities: int
    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool: ...

class Builder(tensorrt.Builder):
    def create_builder_config(self) -> IBuilderConfig: ...

class IRuntimeCache:
    def deserialize(self, blob: Buffer) -> bool: ...
    def serialize(self) -> tensorrt.IHostMemory: ...

class IRuntimeConfig:
    cuda_graph_strategy: CudaGraphStrategy
    dynamic_shapes_kernel_specialization_strategy: DynamicShapesKernelSpecializationStrategy
    def create_runtime_cache(self) -> IRuntimeCache: ...
    def get_runtime_cache(self) -> IRuntimeCache: ...
    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...

class ICudaEngine(tensorrt.ICudaEngine):
    def create_execution_context(  # type: ignore[override] # the other overload, with a strategy, is not used
        self, runtime_config: IRuntimeConfig | None = None
    ) -> IExecutionContext | None: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...

"""The `Correlate` plugin of TensorRT: one node, one kernel, compiled ahead of time into the plan.

Neither a server nor an edge box needs Python or a plugin library for it. Written after TensorRT's Python sources and
held against its official bindings; no engine has been built with it here.
"""

# Not under `from __future__ import annotations`: TensorRT reads the annotations below, and refuses strings.

from functools import cache

import numpy.typing  # noqa: F401 - TensorRT 11.4 reads `numpy.typing` without importing it
import tensorrt as trt
import tensorrt.plugin as trtp

from engines.tensorrt.tactics import NAME, NAMESPACE, Correlation, Kernels
from outfitgan.errors import EngineError
from outfitgan.ops.correlate.compiled_kernel import Dtype, Layout

VERSION = "1"
"""What the ONNX node's `plugin_version` says."""

_PLUGIN = f"{NAMESPACE}::{NAME}"
_DTYPES: dict[trt.DataType, tuple[Dtype, str]] = {
    trt.DataType.HALF: ("fp16", "FP16"),
    trt.DataType.BF16: ("bf16", "BF16"),
    trt.DataType.FLOAT: ("fp32", "FP32"),
}
"""TensorRT's type -> the kernel's name for it, and the one in an AutoTuneCombination."""


@cache
def register_correlate(architectures: tuple[str, ...]) -> Kernels:
    """Register the plugin with kernels for `architectures` and return them, empty until TensorRT requests some.

    Raises:
        EngineError: if this process has registered it with others: TensorRT has one registry a process.

    """
    kernels = Kernels(architectures)

    def describe(
        target: trtp.TensorDesc, source: trtp.TensorDesc, values: trtp.TensorDesc, temperature: float
    ) -> trtp.TensorDesc:
        """Return the output (B, Cv, H, W) of target (B, C, H, W), source (B, C, Hs, Ws) and values (B, Cv, Hs, Ws)."""
        batch, _, height, width = (target.shape_expr[axis] for axis in range(4))
        return trtp.from_shape_expr((batch, values.shape_expr[1], height, width), values.dtype)

    def offer(
        target: trtp.TensorDesc,
        source: trtp.TensorDesc,
        values: trtp.TensorDesc,
        temperature: float,
        outputs: tuple[trtp.TensorDesc],
    ) -> list[trtp.AutoTuneCombination]:
        """Return both layouts, and in each the kernels to time; all four tensors are of one type and layout."""
        types = ", ".join([_DTYPES[target.dtype][1]] * 4)
        offers = []
        for form in (_channels_last(target, values), "LINEAR"):
            tactics = list(kernels.of(_correlation(target, values, temperature, form)))
            offers.append(trtp.AutoTuneCombination(types, form, tactics))
        return offers

    def launch(
        target: trtp.TensorDesc,
        source: trtp.TensorDesc,
        values: trtp.TensorDesc,
        temperature: float,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        """Return a tactic's kernel, its launch and its 32-bit arguments, which stand between inputs and output."""
        kernel = kernels.of(_correlation(target, values, temperature, target.format.name))[tactic]
        queries = target.shape_expr[2] * target.shape_expr[3]
        keys = source.shape_expr[2] * source.shape_expr[3]
        parameters = trtp.KernelLaunchParams(
            grid_x=trtp.cdiv(queries, kernel.grid.rows),
            grid_y=target.shape_expr[0],
            grid_z=kernel.grid.slices,
            block_x=32 * kernel.num_warps,
            shared_mem=kernel.shared,
        )
        extras = trtp.SymIntExprs.from_tuple((trtp.SymInt32(queries), trtp.SymInt32(keys)))
        return kernel.name, kernel.ptx, parameters, extras

    try:
        trtp.register(_PLUGIN)(describe)
    except ValueError as error:
        raise EngineError("This process builds for other GPUs already; build these engines in another.") from error
    trtp.autotune(_PLUGIN)(offer)
    trtp.aot_impl(_PLUGIN)(launch)
    return kernels


def _channels_last(target: trtp.TensorDesc, values: trtp.TensorDesc) -> str:
    """Return TensorRT's name of the layout: for 16 bits its convolutions' own, where that pads nothing."""
    halves = target.dtype != trt.DataType.FLOAT
    return "HWC8" if halves and not target.shape[1] % 8 and not values.shape[1] % 8 else "HWC"


def _correlation(target: trtp.TensorDesc, values: trtp.TensorDesc, temperature: float, form: str) -> Correlation:
    layout: Layout = "channels_first" if form == "LINEAR" else "channels_last"
    return Correlation(_DTYPES[target.dtype][0], target.shape[1], values.shape[1], temperature, layout)

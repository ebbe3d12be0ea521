"""INT8 graphs for OpenVINO's CPU plugin, and the proof that it multiplies them in INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from outfitgan.errors import EngineError

if TYPE_CHECKING:
    import onnx


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an INT8 graph whose rounded tensors are UINT8 about 128: the same values, shifted.

    OpenVINO 2026.4 moves the rounding of a concatenation to each of its parts; where it rounds about 0 the parts then
    come out wrong, and items at 17 to 30 dB.

    Raises:
        GraphError: if it is no INT8 graph.

    """
    import onnx

    from export.qdq import ZERO, check_quantised

    check_quantised(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    zero = next(tensor for tensor in made.graph.initializer if tensor.name == ZERO)
    zero.CopyFrom(onnx.numpy_helper.from_array(np.array(128, np.uint8), ZERO))
    return made


def seven_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an INT8 graph whose weights lie within 64 of 0, at twice their scale.

    A CPU without VNNI adds up pairs of products in 16 bits, which two of 255 by 127 pass: items at 13 to 24 dB. Every
    CPU gets these weights, so that all make the same items.

    Raises:
        GraphError: if it is no INT8 graph.

    """
    import onnx

    from export.qdq import check_quantised

    found = check_quantised(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for name in {convolution.weight for convolution in found}:
        weights = onnx.numpy_helper.to_array(tensors[name])
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(np.rint(weights / 2).astype(np.int8), name))
    for name in {convolution.weight_scale for convolution in found}:
        doubled = onnx.numpy_helper.to_array(tensors[name]) * np.float32(2)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(doubled, name))
    return made


def check_int8(compiled: Any, name: str) -> None:
    """Raise EngineError if a convolution of a compiled model, of the graph called `name`, is not executed in INT8."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        if facts["layerType"].value == "Convolution" and not facts["primitiveType"].value.endswith("_I8"):
            raise EngineError(
                f"openvino runs {node.get_friendly_name()} of {name} as {facts['primitiveType'].value}, not in INT8 "
                "on this CPU; use fp32."
            )

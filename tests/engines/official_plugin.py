"""Run under TensorRT's official bindings: register our plugin, make it of a graph's node, ask it as the builder does.

    python tests/engines/official_plugin.py GRAPH.onnx

prints what came out as JSON. Symbolic dimensions are evaluated by a builder of expressions in Python: TensorRT's own
comes with the builder of engines.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tensorrt as trt
from tensorrt.plugin._lib import QDP_REGISTRY
from tensorrt.plugin._tensor import ShapeExpr, ShapeExprs, SymIntExpr, TensorDesc

from engines.tensorrt import tactics
from engines.tensorrt.plugin import NAME, NAMESPACE, VERSION, register_correlate
from outfitgan.errors import EngineError

BATCH, CHANNELS, VALUES, ROWS, COLUMNS = 3, 64, 24, 20, 9  # VALUES and the grid fill no tile

_OPERATIONS = {
    trt.DimensionOperation.SUM: lambda a, b: a + b,
    trt.DimensionOperation.PROD: lambda a, b: a * b,
    trt.DimensionOperation.CEIL_DIV: lambda a, b: -(-a // b),
}


@dataclass
class Number:
    """An expression whose value is known; TensorRT's cannot be made from Python, so this one passes for it."""

    value: int


trt.IDimensionExpr = Number


class Expressions:
    """Evaluates at once what TensorRT evaluates when a plan runs."""

    def constant(self, value: int) -> Number:
        return Number(value)

    def operation(self, kind: Any, first: Number, second: Number) -> Number:
        return Number(_OPERATIONS[kind](first.value, second.value))


def value(expression: Any) -> int:
    found = expression._expr.value
    assert isinstance(found, int)
    return found


def described(dtype: Any, *shape: int) -> Any:
    """Return the symbolic descriptor of a tensor."""
    return TensorDesc(ShapeExprs.from_tuple(tuple(ShapeExpr(size) for size in shape)), dtype)


def tensor(dtype: Any, *shape: int) -> Any:
    """Return the concrete descriptor that goes with it."""
    concrete = trt.DynamicPluginTensorDesc()
    concrete.desc.dims, concrete.desc.type = trt.Dims(shape), dtype
    return concrete


def created(node: onnx.NodeProto) -> Any:
    """Make the plugin of a node as TensorRT's parser does: those attributes that the creator names become fields."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    space, version = (attributes[name].s.decode() for name in ("plugin_namespace", "plugin_version"))
    creator = trt.get_plugin_registry().get_creator(node.op_type, version, space)
    assert attributes["aot"].i == 1
    fields = []
    for name in [field.name for field in creator.field_names]:
        content = np.array([attributes[name].f], np.float32)
        fields.append(trt.PluginField(name, content, trt.PluginFieldType.FLOAT32))
    collection = trt.PluginFieldCollection(fields)
    strict = trt.QuickPluginCreationRequest.STRICT_AOT
    return creator.create_plugin(node.op_type, space, collection, trt.TensorRTPhase.BUILD, strict)


def ask(plugin: Any, dtype: Any, offered: int) -> dict[str, Any]:
    """Go through the builder's questions for one type, with so many kernels, which take a second each to compile."""
    tactics._TACTICS = offered
    shapes = [(BATCH, CHANNELS, ROWS, COLUMNS), (BATCH, CHANNELS, 7, 5), (BATCH, VALUES, 7, 5)]
    (output,) = plugin.get_output_data_types([dtype] * 3, [4] * 3)
    SymIntExpr._exprBuilder = Expressions()
    plugin.input_descs = [described(dtype, *shape) for shape in shapes]
    made = plugin.register_function(*plugin.input_descs, **plugin.attrs)
    plugin.output_descs = (made,)
    warped = tuple(value(expression) for expression in made.shape_expr)
    tensors = [tensor(dtype, *shape) for shape in (*shapes, warped)]
    formats = plugin.get_supported_format_combinations(tensors, 3)
    launches = []
    for start in range(0, len(formats), 4):
        combination = formats[start : start + 4]
        for concrete, asked in zip(tensors, combination, strict=True):
            concrete.desc.format = asked.format
        plugin.configure_plugin(tensors[:3], tensors[3:])
        valid = sorted(plugin.get_valid_tactics())
        launches.append(launched(plugin, tensors, valid[-1]) | {"tactics": valid})
    types = {kind.name for kind in (output, made.dtype, *(asked.type for asked in formats))}
    return {"types": sorted(types), "warped": warped, "launches": launches}


def launched(plugin: Any, tensors: list[Any], tactic: int) -> dict[str, Any]:
    """Return a kernel and its launch, each size as a number."""
    for symbolic, concrete in zip((*plugin.input_descs, *plugin.output_descs), tensors, strict=True):
        symbolic._immutable = False
        symbolic.shape, symbolic.format = concrete.desc.dims, concrete.desc.format
    function = QDP_REGISTRY[f"{NAMESPACE}::{NAME}"].aot_impl_func
    name, ptx, parameters, extras = function(*plugin.input_descs, *plugin.attrs.values(), plugin.output_descs, tactic)
    sizes = {size: value(getattr(parameters, size)) for size in vars(parameters)}
    formats = [concrete.desc.format.name for concrete in tensors]
    return {
        "formats": formats,
        "entry": name,
        "ptx": ptx[ptx.index(f".entry {name}(") :][:600],
        "target": ptx[ptx.index(".target") :].split()[1],
        "sizes": sizes,
        "extras": [value(extra) for extra in extras],
        "extras_are_32_bits": all(type(extra).__name__ == "SymInt32" for extra in extras),
    }


def main() -> None:
    kernels = register_correlate(("sm_80",))
    assert register_correlate(("sm_80",)) is kernels
    try:
        register_correlate(("sm_80", "sm_90a"))
        refused = ""
    except EngineError as error:
        refused = str(error)
    nodes = [node for node in onnx.load(sys.argv[1]).graph.node if node.op_type == NAME]
    plugin = created(nodes[0])
    report = {
        "nodes": len(nodes),
        "registered": [(c.name, c.plugin_namespace, c.plugin_version) for c in our_creators()],
        "attributes": plugin.attrs,
        "half": ask(plugin, trt.DataType.HALF, offered=2),
        "float": ask(created(nodes[0]), trt.DataType.FLOAT, offered=1),
        "refused": refused,
    }
    print(json.dumps(report))


def our_creators() -> list[Any]:
    found = trt.get_plugin_registry().get_creator(NAME, VERSION, NAMESPACE)
    return [] if found is None else [found]


main()

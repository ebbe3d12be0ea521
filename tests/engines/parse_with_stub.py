"""Parse a graph by TensorRT for RTX, whose parser is of the same source as TensorRT's, and print what it does.

    python tests/engines/parse_with_stub.py GRAPH.onnx [stub]

With `stub`, a creator of the plugin `outfitgan::Correlate` is registered. Its plugins are good for nothing: the parser
ends the process after it has made one. So each event is a line of JSON of its own, written at once.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tensorrt_rtx as trt

NAMESPACE, NAME, VERSION = "outfitgan", "Correlate", "1"


def tell(event: str, value: Any) -> None:
    print(json.dumps([event, value]), flush=True)


class Log(trt.ILogger):
    def __init__(self) -> None:
        super().__init__()

    def log(self, severity: Any, msg: str) -> None:
        if msg.startswith(("Found registered", "Importing", "Parsing node")):
            tell("said", msg)


class Plugin(trt.IPluginV3, trt.IPluginV3OneCore):
    def __init__(self) -> None:
        trt.IPluginV3.__init__(self)
        trt.IPluginV3OneCore.__init__(self)
        self.plugin_namespace, self.plugin_name, self.plugin_version = NAMESPACE, NAME, VERSION


class Creator(trt.IPluginCreatorV3One):
    def __init__(self) -> None:
        super().__init__()
        self.plugin_namespace, self.name, self.plugin_version = NAMESPACE, NAME, VERSION
        temperature = trt.PluginField("temperature", np.array([], np.float32), trt.PluginFieldType.FLOAT32)
        self.field_names = trt.PluginFieldCollection([temperature])

    def create_plugin(self, name: str, fields: Any, phase: Any) -> Plugin:
        told = {field.name: np.array(field.data).view(np.float32).tolist() for field in fields}
        tell("created", {"node": name, "fields": told})
        return Plugin()


def main(graph: str, *stub: str) -> None:
    log = Log()
    network = trt.Builder(log).create_network(0)
    creator = Creator()
    if stub:
        tell("registered", trt.get_plugin_registry().register_creator(creator, NAMESPACE))
    parsed = trt.OnnxParser(network, log).parse_from_file(graph)
    kinds = [network.get_layer(index).type.name for index in range(network.num_layers)]
    tell("parsed", {"whole": parsed, "attentions": kinds.count("ATTENTION_INPUT")})


if __name__ == "__main__":
    main(*sys.argv[1:])

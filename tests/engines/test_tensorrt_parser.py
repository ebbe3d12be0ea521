"""What the real parser makes of our node, as far as it goes without TensorRT: by the parser of TensorRT for RTX.

It is of the same source. That a network, or an engine, comes of the plugin is for `tests/gpu` to show.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest

from export.exported import ExportedGraph

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX, whose parser is asked, is not here; pip install it"
)

LOCAL = "Found registered local function: Correlate. Importing as a local function."


def events(graph: ExportedGraph, *stub: str) -> list[tuple[str, Any]]:
    """Parse in a process of its own, which may end at any moment; return what it told."""
    script = Path(__file__).with_name("parse_with_stub.py")
    command = [sys.executable, script, graph.path, *stub]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    told = [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    assert told, done.stderr
    return told


@pytest.fixture(params=["half_generator", "half_alignment", "alignment"])
def graph(request: pytest.FixtureRequest) -> ExportedGraph:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, ExportedGraph)
    return found


def test_the_parser_takes_the_plugin_before_the_function(graph: ExportedGraph) -> None:
    (node,) = [node for node in onnx.load(graph.path).graph.node if node.op_type == "Correlate"]
    temperature = next(attribute.f for attribute in node.attribute if attribute.name == "temperature")
    told = events(graph, "stub")
    assert told[0] == ("registered", True)
    made = [value for event, value in told if event == "created"]
    assert made == [{"node": node.name, "fields": {"temperature": [pytest.approx(temperature, rel=1e-6)]}}]
    said = [value for event, value in told if event == "said"]
    assert "Found registered plugin: Correlate. Importing this node as a plugin." in said
    assert LOCAL not in said
    assert not [text for text in said if "[Attention]" in text]  # no node of the body was looked at


def test_without_the_plugin_the_body_is_imported_and_no_error_said(graph: ExportedGraph) -> None:
    """So a build has to look for the plugin's layers itself."""
    told = events(graph)
    assert ("said", LOCAL) in told
    assert [value for event, value in told if event == "said" and "[Attention]" in value]
    assert told[-1] == ("parsed", {"whole": True, "attentions": 1})

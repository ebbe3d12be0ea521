"""Other weights into a plan that was built for it, in seconds instead of a build."""

from __future__ import annotations

import tensorrt as trt

from engines.plan.log import process_log
from engines.plan.runner import load_plan
from engines.tensorrt.build import parser_errors
from export.exported import ExportedGraph
from outfitgan.errors import EngineError


def refit_plan(plan: bytes, graph: ExportedGraph, host_code: bool) -> bytes:
    """Return a plan with the weights of `graph` in the place of its own; it can be refitted again.

    Args:
        plan: built with the option `refittable`.
        graph: of the same architecture as the one that the plan was built from.
        host_code: as for `load_plan`.

    Raises:
        EngineError: if the plan was not built for it, or the graph has other weights than it asks for.

    """
    loaded, log = load_plan(plan, graph.name, host_code), process_log()
    if not loaded.engine.refittable:
        raise EngineError(f"The engine of {graph.name} takes no other weights; build it with refittable = true.")
    refitter = trt.Refitter(loaded.engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(str(graph.path)):
        reason = "; ".join(parser_errors(parser)) or log.reason()
        raise EngineError(f"The weights of {graph.name} do not fit the engine ({reason}); build it.")
    if not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights()) or log.reason()
        raise EngineError(f"The graph {graph.name} lacks weights of the engine ({missing}); build it.")
    config = loaded.engine.create_serialization_config()
    config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    return bytes(loaded.engine.serialize_with_config(config))

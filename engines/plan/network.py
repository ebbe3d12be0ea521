"""ONNX to a network, for any builder of plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.manifest import Profile
from engines.plan.api import Api
from outfitgan.contracts import GraphContract
from outfitgan.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt


def parse_file(plan_api: Api, network: trt.INetworkDefinition, path: Path) -> None:
    """Parse a graph's file into an empty network; raise EngineError with the parser's words, node by node."""
    parser: trt.OnnxParser = plan_api.trt.OnnxParser(network, plan_api.log)
    if not parser.parse_from_file(str(path)):
        reason = "; ".join(parser_errors(parser)) or plan_api.log.reason()
        raise EngineError(f"{plan_api.title} does not read {path}: {reason}.")


def parser_errors(parser: trt.OnnxParser | trt.OnnxParserRefitter) -> list[str]:
    """Return a parser's errors, node by node."""
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return [f"{error.node_name() or 'the graph'}: {' '.join(error.desc().split()).rstrip('.')}" for error in errors]


def batch_profile(builder: trt.Builder, contract: GraphContract, profile: Profile) -> trt.IOptimizationProfile:
    """Return an optimisation profile of every input at the batches of `profile`."""
    made = builder.create_optimization_profile()
    batches = profile.min_batch, profile.opt_batch, profile.max_batch
    for spec in contract.inputs:
        made.set_shape(spec.name, *((batch, *spec.shape) for batch in batches))
    return made

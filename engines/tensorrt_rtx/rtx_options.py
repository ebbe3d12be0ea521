"""The options of a build for TensorRT for RTX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from engines.tensorrt_rtx.capabilities import CAPABILITIES, DEFAULT_CAPABILITIES
from outfitgan.errors import ConfigError


def _capabilities(value: Any) -> Any:
    """Return compute capabilities as in 8.6 from a list of them or a text, in which sm_86 says the same."""
    values = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    parts = [text for value in values if (text := str(value).strip())]
    if not parts:
        raise ValueError("name one at least")
    found = tuple(re.sub(r"^sm_?(\d+)(\d)$", r"\1.\2", part) for part in parts)
    if unknown := [part for part in found if part not in CAPABILITIES]:
        raise ValueError(f"there is no {unknown[0]} in TensorRT for RTX; it builds for {', '.join(CAPABILITIES)}")
    return tuple(sorted(set(found), key=CAPABILITIES.index))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RtxOptions:
    """How a plan is built and run; all are part of an engine, since its accuracy is measured as it will run."""

    compute_capabilities: Annotated[tuple[str, ...], BeforeValidator(_capabilities)] = DEFAULT_CAPABILITIES
    correlation: Literal["fused", "decomposed"] = "fused"  # decomposed holds the matrix; fp32 has no other
    specialization: Literal["eager", "lazy", "none"] = "eager"  # when kernels are compiled for a batch size
    cuda_graphs: Literal["off", "whole"] = "off"  # whether the library records a whole run as one launch


_ADAPTER = TypeAdapter(RtxOptions)


def rtx_options(choices: Mapping[str, Any]) -> RtxOptions:
    """Return the options with `choices` in the place of defaults; raise ConfigError on one that does not exist."""
    try:
        return _ADAPTER.validate_python(dict(choices))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        fields = ", ".join(RtxOptions.__dataclass_fields__)
        raise ConfigError(
            f"The tensorrt-rtx option {where} = {first['input']!r} does not do: {what}; the options are {fields}."
        ) from error

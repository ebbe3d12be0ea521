"""The options of a TensorRT build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from outfitgan.errors import ConfigError


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TensorrtOptions:
    """How TensorRT builds; the defaults are for the GPU at hand."""

    optimization_level: Annotated[int, Field(strict=True, ge=0, le=5)] = 3  # 0 builds fast, 5 tries every kernel
    workspace_mib: Annotated[int, Field(strict=True, ge=0)] = 0  # scratch memory of a layer; 0: what the GPU has
    hardware: Literal["this_gpu", "same_compute_capability", "ampere_plus"] = "this_gpu"  # what else may run it
    version_compatible: StrictBool = False  # later versions of TensorRT may run it; it then holds code for the host
    refittable: StrictBool = False  # other weights of the same architecture may be put in
    profiles: Literal["each_batch", "one"] = "each_batch"  # of a graph with the plugin; others have one


_ADAPTER = TypeAdapter(TensorrtOptions)


def tensorrt_options(choices: Mapping[str, Any]) -> TensorrtOptions:
    """Return the options with `choices` in the place of defaults; raise ConfigError on one that does not exist."""
    try:
        return _ADAPTER.validate_python(dict(choices))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        fields = ", ".join(TensorrtOptions.__dataclass_fields__)
        raise ConfigError(
            f"The tensorrt option {where} = {first['input']!r} does not do: {first['msg']}; the options are {fields}."
        ) from error

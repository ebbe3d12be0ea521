"""The kernels that TensorRT chooses from for a `Correlate` node, by tactic. Needs neither TensorRT nor a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from outfitgan.errors import EngineError
from outfitgan.ops.correlate.compiled_kernel import ARCHITECTURES, ITEMSIZE, CompiledKernel, Dtype, Layout

NAMESPACE, NAME = "outfitgan", "Correlate"
"""What the ONNX node's `plugin_namespace` and its type say."""

PORTABLE = "sm_80"
"""Its PTX runs on every GPU from Ampere on."""

_OWN = {"9.0": "sm_90a"}
"""Compute capability -> an architecture whose code is faster there and runs nowhere else."""

_MAX_SHARED = 48 * 1024
"""Bytes of shared memory that a block gets by default; whether TensorRT requests more is not documented."""

_TACTICS = 4  # an architecture; each is compiled (about a second) and timed once a layout


@dataclass(frozen=True)
class Correlation:
    """What one node computes, as far as its kernel depends on it."""

    dtype: Dtype
    match_channels: int  # C
    value_channels: int  # Cv
    temperature: float
    layout: Layout


def architectures(compute_capability: str, hardware: str) -> tuple[str, ...]:
    """Return what kernels are compiled for, the portable one first.

    Args:
        compute_capability: of the GPU at hand, as in 9.0.
        hardware: which GPUs the engine is for, as in `TensorrtOptions`.

    Raises:
        EngineError: if the GPU is older than Ampere.

    """
    if int(compute_capability.partition(".")[0]) < 8:
        raise EngineError(
            f"The correlation kernel needs compute capability 8.0 or newer (Ampere), not {compute_capability}; "
            "take another GPU, or a CPU runtime."
        )
    own = _OWN.get(compute_capability)
    return (PORTABLE,) if own is None or hardware == "ampere_plus" else (PORTABLE, own)


@dataclass
class Kernels:
    """Compiles kernels on demand and remembers them: the graphs of a run mostly ask for the same."""

    architectures: tuple[str, ...]
    requested: dict[Correlation, dict[int, CompiledKernel]] = field(default_factory=dict)  # by the graph that is built
    failure: BaseException | None = None  # why there are none: TensorRT only says that a plugin failed
    _compiled: dict[Correlation, dict[int, CompiledKernel]] = field(default_factory=dict)

    def start(self) -> None:
        """Start another graph."""
        self.requested.clear()
        self.failure = None

    def of(self, correlation: Correlation) -> dict[int, CompiledKernel]:
        """Return the kernels for a node by tactic, a number from 1; raise OutfitError if there are none.

        Whatever is raised, Ctrl-C too, is kept: TensorRT lets no exception through.
        """
        try:
            if correlation not in self._compiled:
                self._compiled[correlation] = self._compile(correlation)
        except BaseException as error:
            self.failure = error
            raise
        self.requested[correlation] = self._compiled[correlation]
        return self.requested[correlation]

    def _compile(self, correlation: Correlation) -> dict[int, CompiledKernel]:
        kernels: list[CompiledKernel] = []
        for architecture in self.architectures:
            kernels += islice(_usable(architecture, correlation), _TACTICS)
        if not kernels:
            raise EngineError(f"No kernel for {correlation} fits a plugin of TensorRT's; set narrower channels.")
        return dict(enumerate(kernels, start=1))


def _usable(architecture: str, correlation: Correlation) -> Iterator[CompiledKernel]:
    """Compile one tiling after the other, the default first; leave out what a plugin's one plain launch cannot run."""
    from outfitgan.ops.correlate.ahead_of_time import compile_ptx
    from outfitgan.ops.correlate.tiles import candidate_tiles

    widths = correlation.match_channels, correlation.value_channels
    for tiles in candidate_tiles(ITEMSIZE[correlation.dtype], *widths):
        if tiles.queries > ARCHITECTURES[architecture].max_queries:
            continue
        kernel = compile_ptx(
            architecture, correlation.dtype, *widths, correlation.temperature, correlation.layout, tiles
        )
        if kernel.shared <= _MAX_SHARED and not kernel.spills and not kernel.tensor_memory:
            yield kernel

"""The interface of every runtime: what builds engines of graphs, and opens them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import Engine
from engines.manifest import EngineManifest
from engines.settings import BuildSettings
from outfitgan.contracts import GraphContract
from outfitgan.errors import ConfigError

if TYPE_CHECKING:
    from export.exported import ExportedGraph


class Runtime(ABC):
    """One way to run graphs, as OpenVINO on a CPU or TensorRT on a GPU."""

    name: ClassVar[str]
    extra: ClassVar[str]
    """The extra of this project that installs what it needs."""
    graph_precisions: ClassVar[Mapping[str, str]]
    """Precision of an engine -> that of the graph it is built from."""
    built_for_others: ClassVar[bool] = False
    """Whether it builds for machines that this one need not be: its engines keep what `engines.verification` needs."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of what builds and runs the engine."""

    def form(self) -> str:
        """Return the form, of `export.exported.FORMS`, of the graphs that the installed version builds from."""
        return "standard"

    @abstractmethod
    def device(self) -> dict[str, str]:
        """Return the device's name and what else identifies it."""

    @abstractmethod
    def build(self, graph: ExportedGraph, folder: Path, precision: str, settings: BuildSettings) -> dict[str, Any]:
        """Put the engine's files into `folder` and return what the manifest records of them besides.

        Raises:
            EngineError: if it cannot be built here.

        """

    @abstractmethod
    def open(self, folder: Path, manifest: EngineManifest, threads: int) -> Engine:
        """Load the engine with `threads` threads (0: one a core); raise EngineError if it cannot run here."""

    def options(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option of a build, `choices` in the place of defaults; raise ConfigError on an unknown one."""
        if choices:
            raise ConfigError(
                f"The runtime {self.name} has no option {', '.join(choices)}, nor any other; leave it out."
            )
        return {}

    def why_not_here(self, options: Mapping[str, Any]) -> str:
        """Return why this machine cannot run what is built on it with `options`, empty if it can."""
        return ""

    def largest_batch(self, contract: GraphContract) -> int:
        """Return the largest batch that an engine of a graph is built for."""
        return contract.max_batch

    def required_device_fields(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the fields of `device` in which a machine must equal the one that built an engine to run it."""
        return ()


class RefittingRuntime(Runtime):
    """A runtime that can put other weights into an engine."""

    @abstractmethod
    def refit(self, built: Path, manifest: EngineManifest, graph: ExportedGraph, folder: Path) -> None:
        """Put into `folder` the engine in `built` with the weights of `graph`; raise EngineError if they do not fit."""

"""The interface of every engine, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from engines.manifest import EngineManifest
from outfitgan.contracts import Arrays, GraphContract
from outfitgan.errors import EngineError


class Engine(ABC):
    """A loaded engine; one caller at a time. Use it in a `with` block, or call `close`."""

    def __init__(
        self,
        manifest: EngineManifest,  # of its folder
    ) -> None:
        self.manifest = manifest
        self._closed = False

    @property
    def contract(self) -> GraphContract:
        """The boundary of the graph it runs."""
        return self.manifest.contract

    def run(self, feeds: Arrays) -> Arrays:
        """Return the contract's outputs; raise InputError on wrong inputs, EngineError after `close`."""
        if self._closed:
            raise EngineError(f"The engine {self.contract.name} is closed; open it again.")
        self.contract.check_inputs(feeds)
        return self._infer(feeds)

    def close(self) -> None:
        """Release what the engine holds; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._release()

    @abstractmethod
    def _infer(self, feeds: Arrays) -> Arrays:
        """Run checked inputs; the arrays returned belong to the caller."""

    @abstractmethod
    def _release(self) -> None:
        """Drop the session or the device memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

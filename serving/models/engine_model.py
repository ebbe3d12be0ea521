"""Engines behind Triton's Python backend: importable in its processes only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from engines.registry import open_engine
from outfitgan.contracts import Arrays
from outfitgan.errors import EngineError, InputError
from serving.models.step_model import refusal, response, tensors_of
from serving.models.thread_parameters import CPU_THREAD_PARAMETER


class EngineModel:
    """An engine folder behind Triton; the requests of one dynamic batch run together."""

    runtime: str  # whose engines it runs

    def initialize(self, args: dict[str, str]) -> None:
        """Open the version folder as an engine; raise EngineError if it was altered or is for another backend."""
        config = json.loads(args["model_config"])
        parameters = config.get("parameters", {})  # a GPU's have none for threads
        threads = parameters.get(CPU_THREAD_PARAMETER.get(self.runtime, ""), {}).get("string_value", "0")
        self.engine = open_engine(Path(args["model_repository"]) / args["model_version"], int(threads))
        found = self.engine.manifest.runtime
        if found != self.runtime:
            raise EngineError(
                f"{config['name']} holds an engine for {found} and its config says {self.runtime}: "
                "run `outfitgan assemble` again."
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request; those whose inputs fit the contract share runs of up to its largest batch."""
        answers: list[Any] = [None] * len(requests)
        sound: list[tuple[int, Arrays, int]] = []
        for index, request in enumerate(requests):
            feeds = tensors_of(request)
            try:
                sound.append((index, feeds, self.engine.contract.check_inputs(feeds)))
            except InputError as error:
                answers[index] = refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        for group in _groups(sound, self.engine.manifest.profile.max_batch):
            self._run(group, answers)
        return answers

    def finalize(self) -> None:
        """Release the engine."""
        self.engine.close()

    def _run(self, group: list[tuple[int, Arrays, int]], answers: list[Any]) -> None:
        try:
            feeds = [feeds for _, feeds, _ in group]
            joined = feeds[0] if len(feeds) == 1 else _join(feeds)
            outputs = self.engine.run(joined)
        except Exception as error:  # an uncaught one would reach the client as a traceback
            pb_utils.Logger.log_error(f"{self.engine.contract.name}: {error!r}")
            message = f"{self.engine.contract.name} failed ({error!r})."
            for index, _, _ in group:
                answers[index] = refusal(message, pb_utils.TritonError.INTERNAL)
            return
        start = 0
        for index, _, batch in group:
            answers[index] = response({name: array[start : start + batch] for name, array in outputs.items()})
            start += batch


def _groups(sound: list[tuple[int, Arrays, int]], limit: int) -> Iterator[list[tuple[int, Arrays, int]]]:
    group: list[tuple[int, Arrays, int]] = []
    for entry in sound:
        if group and sum(batch for _, _, batch in group) + entry[2] > limit:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _join(feeds: list[Arrays]) -> Arrays:
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}

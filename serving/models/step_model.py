"""The models of this project as Triton's Python backend runs them: importable in its processes only."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

import triton_python_backend_utils as pb_utils

from outfitgan.contracts import Arrays
from outfitgan.errors import InputError


class StepModel(ABC):
    """A model whose `step` answers one request at a time; its errors reach the client as one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Keep the config: the mask names and the image size come from it."""
        self.config: dict[str, Any] = json.loads(args["model_config"])
        self.masks = [tensor["name"] for tensor in self.config["input"] if tensor["name"].startswith("MASK_")]

    @property
    def image_size(self) -> int:
        """The side of SOURCE as the model gives it."""
        return next(int(tensor["dims"][0]) for tensor in self.config["output"] if tensor["name"] == "SOURCE")

    @abstractmethod
    def step(self, inputs: Arrays) -> Arrays:
        """Return the outputs for one request; raise InputError if it cannot be answered."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request; one that is refused leaves its neighbours alone."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            return response(self.step(tensors_of(request)))
        except InputError as error:
            return refusal(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # an uncaught one would reach the client as a traceback
            pb_utils.Logger.log_error(f"{self.config['name']}: {error!r}")
            return refusal(f"{self.config['name']} failed ({error!r}).", pb_utils.TritonError.INTERNAL)


def tensors_of(request: Any) -> Arrays:
    """Return the inputs that were sent."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def response(outputs: Arrays) -> Any:
    """Return an answer."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def refusal(message: str, code: Any) -> Any:
    """Return an error that the client reads as `message`."""
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))

"""Leaf of every ensemble: hand COMPATIBILITY out, or refuse it where a mask was not sent."""

from outfitgan.contracts import Arrays
from serving.models import steps
from serving.models.step_model import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: Arrays) -> Arrays:
        return steps.score(inputs)

"""Leaf of the ensembles that answer in files: hand an image out as PNG, or refuse it where its mask was not sent."""

from outfitgan.contracts import Arrays
from serving.models import steps
from serving.models.step_model import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: Arrays) -> Arrays:
        return steps.encode(inputs)

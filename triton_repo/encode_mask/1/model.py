"""Leaf of `outfit_from_source`: hand a generated mask out as PNG."""

from outfitgan.contracts import Arrays
from serving.models import steps
from serving.models.step_model import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: Arrays) -> Arrays:
        return steps.encode_mask(inputs)

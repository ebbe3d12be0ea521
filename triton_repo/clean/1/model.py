"""A generated mask in black and white, or a refusal where it is empty."""

from outfitgan.contracts import Arrays
from serving.models import steps
from serving.models.step_model import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: Arrays) -> Arrays:
        return steps.clean(inputs)

"""First step of `outfit`: check the tensors, put zeros where no mask was sent."""

from outfitgan.contracts import Arrays
from serving.models import steps
from serving.models.step_model import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: Arrays) -> Arrays:
        return steps.prepare(inputs, self.masks)

"""First step of `outfit_from_source`: an image file to a tensor."""

from outfitgan.contracts import Arrays
from serving.models import steps
from serving.models.step_model import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: Arrays) -> Arrays:
        return steps.decode_source(inputs, self.image_size)

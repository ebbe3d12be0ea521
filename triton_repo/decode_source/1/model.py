"""First step of `outfit_from_source`: an image file to a tensor."""

from serving import steps
from serving.in_server import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: steps.Tensors) -> steps.Tensors:
        return steps.decode_source(inputs, self.image_size)

"""First step of `outfit_encoded`: image files to tensors, zeros where no mask was sent."""

from serving import steps
from serving.in_server import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: steps.Tensors) -> steps.Tensors:
        return steps.decode(inputs, self.masks, self.image_size)

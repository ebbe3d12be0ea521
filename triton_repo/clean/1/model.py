"""A generated mask in black and white, or a refusal where it is empty."""

from serving import steps
from serving.in_server import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: steps.Tensors) -> steps.Tensors:
        return steps.clean(inputs)

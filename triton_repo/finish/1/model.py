"""Leaf of `outfit`: hand an image out, or refuse it where its mask was not sent."""

from serving import steps
from serving.in_server import StepModel


class TritonPythonModel(StepModel):
    def step(self, inputs: steps.Tensors) -> steps.Tensors:
        return steps.finish(inputs)

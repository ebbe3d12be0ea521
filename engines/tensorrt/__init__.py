"""Building a plan with TensorRT, for one NVIDIA GPU. What runs a plan is `engines.plan`."""

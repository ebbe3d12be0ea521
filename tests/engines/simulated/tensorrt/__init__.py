"""A TensorRT that computes with onnxruntime: the classes that this project uses, and no others.

It stands in for what PyPI has not, so that the project's own code runs: order of calls, memory, streams, files, errors.
It says nothing of TensorRT itself; `test_tensorrt_contract.py` holds its names against the official ones.
"""

from tensorrt.build import *  # noqa: F403
from tensorrt.build import VERSION
from tensorrt.run import *  # noqa: F403
from tensorrt.types import *  # noqa: F403

__version__ = VERSION

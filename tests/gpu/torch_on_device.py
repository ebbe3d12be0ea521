"""One generator in torch on a device that is named: which of our operators ran, and how far its item is from a CPU's.

    python tests/gpu/torch_on_device.py cuda

A process of its own, since the tests of the op interpret the kernel in theirs.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from gpu_graphs import KIND, TINY
from torch.utils._python_dispatch import TorchDispatchMode

from outfitgan.networks.architectures import build_generator


class Recorder(TorchDispatchMode):
    """The names of this project's operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("outfitgan."):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def main(device: str) -> None:
    torch.backends.cudnn.allow_tf32 = False  # FP32 is FP32
    torch.manual_seed(12)
    network = build_generator(TINY.model).items[KIND].eval()
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, (torch.rand(2, 1, 64, 64) > 0.5).float()
    with torch.no_grad():
        expected = network(image, mask)  # (B, 3, S, S)
        with Recorder() as seen:
            found = network.to(device)(image.to(device), mask.to(device))
    print(json.dumps({"operators": seen.names, "error": float((found.cpu() - expected).abs().max())}))


if __name__ == "__main__":
    main(sys.argv[1])

"""The parity table: torch -> ONNX -> onnxruntime -> openvino -> served, on the same requests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.parity import IDENTICAL_DB as PSNR_IDENTICAL

__all__ = ["PSNR_IDENTICAL", "psnr"]


def psnr(reference: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two uint8 images in dB; PSNR_IDENTICAL if they are equal."""
    error = float(np.mean((reference.astype(np.float64) - image) ** 2))
    return PSNR_IDENTICAL if error == 0 else float(10 * np.log10(255**2 / error))

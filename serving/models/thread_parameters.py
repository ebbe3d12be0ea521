"""The parameter by which NVIDIA's backend of each CPU runtime sets its threads, and ours of the same name too."""

from __future__ import annotations

CPU_THREAD_PARAMETER = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}

"""The correlation, the operator at the heart of the SAM, whole in one folder. Read in this order:

1. `reference`        the definition in plain torch, with the matrix in memory: what every other form must equal
2. `dispatch`         `correlate`, `best_match`, `match_weights`: the checks, and which form computes
3. `sdpa`             torch's attention: differentiable, without the matrix; what trainings and CPUs run
4. `kernel`           the fused kernel in the Triton kernel language: one pass, without the matrix
5. `tiles`            how the kernel is cut, and between which cuts it is tuned
6. `launch`           the kernel on torch tensors, just in time
7. `torch_ops`        the kernel as torch operators, and when it cannot be taken
8. `compiled_kernel`  what a kernel compiled ahead of time is, as data
9. `ahead_of_time`    the kernel compiled to PTX without a GPU: for TensorRT's plugin and for launches without Python
10. `ptx_files`       PTX as files, for `outfitgan kernel`

In ONNX it is one node with a function body: `export.correlate_function`. In TensorRT it is a plugin:
`engines.tensorrt.plugin`.
"""

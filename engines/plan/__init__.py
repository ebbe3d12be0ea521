"""Running a plan, whichever TensorRT built it: the GPU, the library's log, execution contexts, the engine."""

"""Building a plan with TensorRT, for one NVIDIA GPU; what runs it is in `engines.plan`.

`tensorrt_runtime` is the entry, `build` the build, `options` its options, `inspect` its checks, `refit` other weights;
`plugin` and `tactics` are the correlation as a plugin, which no other TensorRT takes.
"""

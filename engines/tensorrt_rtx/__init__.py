"""Building plans with TensorRT for RTX, without a GPU where there is none; what runs them is in `engines.plan`.

`rtx_runtime` is the entry, `rtx_build` the build, `rtx_options` its options; `layer_table` reads what the builder says
of its plan, and `layer_checks` holds it against the graph; `rtx_engine` runs a plan with its runtime cache.
"""

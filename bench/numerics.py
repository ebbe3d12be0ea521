"""The fused kernel's errors under the interpreter, on the CPU: the numerics table of docs/kernel.md.

python bench/numerics.py
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from outfitgan.errors import OutfitError
from outfitgan.program import run_program


def main() -> None:
    """Print the worst error of each case against FP64, as a Markdown table; fail where one is over its limit."""
    # Read when the kernel language is imported, which the modules below put off to the first call.
    os.environ["TRITON_INTERPRET"] = "1"
    from bench.kernel_cases import check, check_cases
    from outfitgan.ops.correlate.dispatch import best_match, correlate

    print("| case | dtype | temperature | worst error | limit | best match's weight |")
    print("|---|---|---|---|---|---|")
    failed = []
    for case in check_cases(12):
        with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is matched, the interpreter divides 0 by 0
            found = check(case, "cpu", partial(correlate, impl="fused"), partial(best_match, impl="fused"))
        figures = f"{found.error:.1e} | {found.limit:.1e} | {found.weight_error:.0e}"
        print(f"| {found.case} | {found.dtype} | {found.temperature:g} | {figures} |", flush=True)
        failed += [] if found.passed else [found.case]
    if failed:
        raise OutfitError(f"Over the limit: {', '.join(failed)}; the kernel is not to be trusted.")


if __name__ == "__main__":
    run_program(main)

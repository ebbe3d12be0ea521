"""Timing of one call: cold apart from warm, percentiles over requests, spread over repeats."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Latencies of sequential calls, in milliseconds; seconds where the name ends in _s."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p50_low_ms: float  # lowest and highest p50 of the repeats
    p50_high_ms: float
    per_second: float  # 1 / mean
    load_s: float  # until the first call could be made
    first_ms: float  # the first call, apart from the warm ones
    peak_rss_mib: float  # of the calling process
    requests: int

    def to_json(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def measure(call: Callable[[], object], load_s: float, requests: int, repeats: int) -> Timing:
    """Time `call` once cold, then `repeats` times `requests` calls."""
    first = _time(call)
    rounds = [[_time(call) for _ in range(requests)] for _ in range(repeats)]
    latencies = np.array(rounds)  # (repeats, requests) milliseconds
    p50s = np.median(latencies, axis=1)
    p50, p90, p99 = (round(float(value), 3) for value in np.percentile(latencies, [50, 90, 99]))
    return Timing(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p50_low_ms=round(float(p50s.min()), 3),
        p50_high_ms=round(float(p50s.max()), 3),
        per_second=round(1000 / float(latencies.mean()), 3),
        load_s=round(load_s, 3),
        first_ms=round(first, 3),
        peak_rss_mib=_peak_rss_mib(),
        requests=latencies.size,
    )


def _peak_rss_mib() -> float:
    """Return this process's own peak; getrusage's would include its parent's before the exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def _time(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000

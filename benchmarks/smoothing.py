"""Notebook 52: five ways to smooth, ours beside what one would take from NumPy, SciPy or pandas.

Called by bench.py; as a script it prints the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import savgol_filter

from helpers.forecasts import smooth

Floats = NDArray[np.floating]
Way = Callable[[Floats, int], Floats]

# Of a centred exponential mean no library has a function: the causal one is measured.
ALTERNATIVES: dict[str, tuple[str, Way]] = {
    "mean": ("pandas, rolling", lambda y, w: pd.Series(y).rolling(w, center=True, min_periods=1).mean().to_numpy()),
    "exponential": ("pandas, ewm", lambda y, w: pd.Series(y).ewm(span=w).mean().to_numpy()),
    "median": ("SciPy, median_filter", lambda y, w: median_filter(y, w)),
    "savgol": ("SciPy, savgol_filter", lambda y, w: savgol_filter(y, w, 2)),
    "gaussian": ("SciPy, gaussian_filter1d", lambda y, w: gaussian_filter1d(y, w / 6, radius=w // 2)),
}


def seconds(call: Callable[[], Floats], turns: int = 5) -> float:
    """Return the least time of some calls."""
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def smoothing_rows() -> Iterator[str]:
    """Yield the rows of a table: milliseconds, and where a window is complete the largest difference."""
    yield "| method | values, window | helpers.forecasts.smooth | alternative | | largest difference inside |"
    yield "|---|---|---|---|---|---|"
    for method, (name, theirs) in ALTERNATIVES.items():
        for n, window in ((10**3, 7), (10**5, 7), (10**5, 51), (10**6, 51)):
            y = 20 + np.random.default_rng(0).normal(size=n)
            ours = partial(smooth, method=method, causal=method == "exponential")
            difference = np.abs(ours(y, window) - theirs(y, window))[window:-window].max()
            times = [seconds(partial(way, y, window)) for way in (ours, theirs)]
            cells = " ms | ".join(f"{1000 * t:.3g}" for t in times)
            yield f"| {method} | 10^{math.log10(n):.0f}, {window} | {cells} ms | {name} | {difference:.0e} |"


if __name__ == "__main__":
    for row in smoothing_rows():
        print(row, flush=True)

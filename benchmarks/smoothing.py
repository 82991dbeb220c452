"""Chapter 07: a moving average, ours beside the alternatives; bottleneck where it is installed.

Called by bench.py; as a script it prints the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from helpers.forecasts import smooth

Floats = NDArray[np.floating]
TURNS = {10**3: 200, 10**5: 20, 10**7: 3}
WINDOWS = (5, 51, 501)


def ways(window: int) -> dict[str, Callable[[Floats], Floats]]:
    """Return what is compared; the ratios are to the second one."""
    every: dict[str, Callable[[Floats], Floats]] = {
        "helpers.forecasts.smooth": lambda y: smooth(y, window),
        "np.convolve": lambda y: np.convolve(y, np.ones(window) / window, "same"),
        "SciPy, uniform_filter1d": lambda y: uniform_filter1d(y, window),
        "pandas, rolling": lambda y: pd.Series(y).rolling(window, center=True, min_periods=1).mean().to_numpy(),
    }
    if find_spec("bottleneck"):
        import bottleneck

        # It knows no centred window: its values, moved back by half of the causal one.
        every["bottleneck"] = lambda y: np.roll(bottleneck.move_mean(y, window, min_count=1), -(window // 2))
    return every


def seconds(calls: dict[str, Callable[[Floats], Floats]], y: Floats) -> dict[str, float]:
    """Return the least time of each way."""
    best = dict.fromkeys(calls, math.inf)
    for _ in range(TURNS[len(y)]):
        for name, call in calls.items():
            # Once unmeasured: none shall pay for memory that another has given back to the system.
            call(y)
            start = time.perf_counter()
            call(y)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def largest_errors(window: int) -> dict[str, float]:
    """Return the largest error of each way over the complete windows of 10^6 + N(0, 1)."""
    y = 1e6 + np.random.default_rng(0).normal(size=10**5)
    # The differences from 10^6 are exact, and their mean is small: no digit of this reference is lost.
    above = (y - 1e6).astype(np.longdouble)
    complete, half = len(y) - window + 1, window // 2
    exact = sum(above[shift : shift + complete] for shift in range(window)) / window + np.longdouble(1e6)
    found = {name: call(y)[half : len(y) - half] for name, call in ways(window).items()}
    return {name: float(np.abs(values - exact).max()) for name, values in found.items()}


def smoothing_rows() -> Iterator[str]:
    """Yield the rows of a table: time relative to np.convolve, and the largest errors."""
    yield "| moving average, milliseconds | " + " | ".join(ways(1)) + " |"
    yield "|---" * (1 + len(ways(1))) + "|"
    for n in TURNS:
        y = 1e6 + np.random.default_rng(0).normal(size=n)
        for window in WINDOWS:
            best = seconds(ways(window), y)
            cells = [f"{1000 * passed:.3g} ({passed / best['np.convolve']:.2g})" for passed in best.values()]
            yield f"| 10^{round(math.log10(n))} values, window {window} | {' | '.join(cells)} |"
    for window in WINDOWS:
        cells = [f"{error:.1e}" for error in largest_errors(window).values()]
        yield f"| largest error at 10^6 + N(0, 1), window {window} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for row in smoothing_rows():
        print(row, flush=True)

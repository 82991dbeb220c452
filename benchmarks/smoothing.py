"""Lesson 52: four ways to smooth, ours beside what one would take from NumPy, SciPy or pandas.

Called by bench.py; as a script it prints the table.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter1d, median_filter

from helpers.forecasts import smooth

Floats = NDArray[np.floating]
Way = Callable[[Floats, int], Floats]


def rolling(y: Floats, window: int) -> pd.api.typing.Rolling:
    """Windows of pandas, which shrink at the ends as ours do; series in columns."""
    return pd.DataFrame(y.T).rolling(window, center=True, min_periods=1)


def convolved(y: Floats, window: int) -> Floats:
    """Each series by np.convolve, divided by what of a window exists."""
    inside = np.convolve(np.ones(y.shape[-1]), np.ones(window), "same")
    return np.apply_along_axis(np.convolve, -1, y, np.ones(window), "same") / inside


# All but those of pandas make up values beyond the ends; there nothing is compared.
ALTERNATIVES: dict[str, dict[str, Way]] = {
    "mean": {
        "np.convolve": convolved,
        "pandas": lambda y, w: rolling(y, w).mean().to_numpy().T,
        "SciPy, correlate1d": lambda y, w: correlate1d(y, np.full(w, 1 / w)),
    },
    "gaussian": {"SciPy, gaussian_filter1d": lambda y, w: gaussian_filter1d(y, w / 6, radius=w // 2)},
    "median": {
        "pandas": lambda y, w: rolling(y, w).median().to_numpy().T,
        "SciPy, median_filter": lambda y, w: median_filter(y, (1,) * (y.ndim - 1) + (w,)),
    },
    "exponential": {"pandas, ewm": lambda y, w: pd.DataFrame(y.T).ewm(span=w).mean().to_numpy().T},
}
# The series and the forecasts of the lesson, and longer ones.
SIZES = (((1, 8730), 7), ((1723, 24), 7), ((1, 10**5), 51), ((1, 10**6), 51))


def milliseconds(call: Callable[[], Floats]) -> float:
    """Return the least time of several calls."""
    return 1000 * min(timeit.repeat(call, number=1, repeat=7))


def smoothing_rows() -> Iterator[str]:
    """Yield the rows of a table: milliseconds, and where a window is complete the largest difference."""
    yield "| method | series × values, window | helpers.forecasts.smooth | alternative | | largest difference inside |"
    yield "|---|---|---|---|---|---|"
    for method, ways in ALTERNATIVES.items():
        ours = partial(smooth, method=method, causal=method == "exponential")
        for shape, window in SIZES:
            y = 20 + np.random.default_rng(0).normal(size=shape)
            # One series has one axis, where that is possible.
            y = y[0] if shape[0] == 1 else y
            result, mine = ours(y, window), milliseconds(partial(ours, y, window))
            for name, theirs in ways.items():
                found = theirs(y, window).reshape(result.shape)
                difference = np.abs(result - found)[..., window:-window].max()
                cells = f"{mine:.3g} ms | {name} | {milliseconds(partial(theirs, y, window)):.3g} ms"
                yield f"| {method} | {shape[0]:,} × {shape[1]:,}, {window} | {cells} | {difference:.0e} |"


if __name__ == "__main__":
    for row in smoothing_rows():
        print(row, flush=True)

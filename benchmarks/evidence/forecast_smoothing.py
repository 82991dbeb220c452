"""Fix the model, or smooth its forecasts? Eight months, five seeds: the table that lesson 52 draws.

python benchmarks/evidence/forecast_smoothing.py   writes forecast_smoothing.csv, in about four minutes on one core

For each month from May to December all models learn from the hours before the month in front of it, the window of the
smoother is chosen on that month, and the month itself judges: the origin rolls by an hour, and the 24 hours of each
forecast lie within the month, so that no two months share a reading that judges. All networks have the recipe and the
budget of datasets/new_york_temperatures/make_network.py, 'five times the steps' excepted.
"""

from __future__ import annotations

import runpy
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.evidence_table import write_table
from helpers import data, forecasts, notebook

SEEDS, MONTHS, WINDOWS = range(5), range(5, 13), (1, 3, 5, 7, 9, 13)
SOURCE = data.load("new_york_temperatures")
RECIPE = runpy.run_path(str(notebook.ROOT / "datasets" / "new_york_temperatures" / "make_network.py"))
HISTORY, HORIZON = RECIPE["HISTORY"], RECIPE["HORIZON"]
Floats = NDArray[np.floating]


@cache
def examples(airport: str, month: int) -> tuple[Floats, Floats]:
    """Return histories and readings of all forecasts that lie within a month."""
    y = SOURCE.column(airport)
    months = pd.DatetimeIndex(SOURCE.X).month
    # What a forecaster has: no filled hour, no replaced value and no limit knows the future.
    limit = 8 * float(np.nanstd(np.diff(y[months < MONTHS.start - 1])))
    seen = pd.Series(forecasts.replace_outliers(y, 7, min_deviation=limit, causal=True)).ffill().bfill().to_numpy()
    inside = np.flatnonzero(months == month)
    first, last = max(inside[0], HISTORY), inside[-1] + 1
    X = sliding_window_view(seen, HISTORY)[first - HISTORY : last - HORIZON - HISTORY + 1]
    return X, sliding_window_view(y, HORIZON)[first : last - HORIZON + 1]


@cache
def learnt_from(airport: str, end: int) -> tuple[Floats, Floats]:
    X, y = RECIPE["windows"](SOURCE.column(airport), end)
    return X, y


def rmse(forecast: Floats, truth: Floats) -> float:
    return float(np.sqrt(np.nanmean((forecast - truth) ** 2)))


def jitter(forecast: Floats) -> float:
    return float(np.abs(np.diff(forecast, 2, axis=1)).mean())


def begin(month: int) -> int:
    """Return the first hour of a month."""
    return int(np.flatnonzero(pd.DatetimeIndex(SOURCE.X).month == month)[0])


def trained(airport: str, month: int, seed: int, start: str, steps: int = 600, *, pooled: bool = False) -> list[Floats]:
    """Train a network on the hours before the month before this one; return its forecasts of the two."""
    end = begin(month - 1)
    names = SOURCE.feature_names if pooled else (airport,)
    X, y = map(np.concatenate, zip(*(learnt_from(name, end) for name in names), strict=True))
    network = RECIPE["make"](X, y, seed, start=start, steps=steps)
    asked = (examples(airport, m)[0].astype("float32") for m in (month - 1, month))
    return [network.predict(x, batch_size=4096, verbose=0).astype(np.float64) for x in asked]


def unlearned(airport: str, month: int) -> dict[str, list[Floats]]:
    """Return the forecasts of ridge regression, naive and seasonal naive."""
    end = begin(month - 1)
    X, y = (part.astype(np.float64) for part in learnt_from(airport, end))
    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(X - X[:, -1:], y - X[:, -1:])
    asked = [examples(airport, m)[0] for m in (month - 1, month)]
    return {
        "ridge regression": [ridge.predict(x - x[:, -1:]) + x[:, -1:] for x in asked],
        "naive": [np.repeat(x[:, -1:], HORIZON, axis=1) for x in asked],
        "seasonal naive": [x[:, -HORIZON:] for x in asked],
    }


def judged(airport: str, month: int, model: str, seed: int, forecast: list[Floats]) -> list[dict[str, object]]:
    """Return a row as issued, one with a fixed smoother, and one with a window chosen on the month before."""
    before, truth = (examples(airport, m)[1] for m in (month - 1, month))
    # Rounded: of windows that change nothing, as those of a constant forecast, the first is taken.
    scores = np.round([rmse(forecasts.smooth(forecast[0], window, "gaussian"), before) for window in WINDOWS], 9)
    rows = []
    for smoothing, window in {"none": 1, "gaussian 9": 9, "chosen": WINDOWS[int(np.argmin(scores))]}.items():
        guess = forecasts.smooth(forecast[1], window, "gaussian")
        row: dict[str, object] = {"airport": airport, "month": month, "model": model, "seed": seed}
        row |= {"smoothing": smoothing, "window": window, "rmse": f"{rmse(guess, truth):.4f}"}
        rows.append(row | {"first": f"{rmse(guess[:, 0], truth[:, 0]):.4f}", "jitter": f"{jitter(guess):.4f}"})
    return rows


def month_of(airport: str, month: int) -> list[dict[str, object]]:
    """Return all rows of a month."""
    found = {(name, 0): forecast for name, forecast in unlearned(airport, month).items()}
    for name, start in {"one network": "glorot_uniform", "output from zeros": "zeros"}.items():
        each = [trained(airport, month, seed, start) for seed in SEEDS]
        found |= {(name, seed): forecast for seed, forecast in zip(SEEDS, each, strict=True)}
        found[f"{name}, mean of five", 0] = [np.mean(part, axis=0) for part in zip(*each, strict=True)]
    found["five times the steps", 0] = trained(airport, month, 0, "glorot_uniform", 3000)
    found["three airports", 0] = trained(airport, month, 0, "glorot_uniform", pooled=True)
    return [row for (model, seed), forecast in found.items() for row in judged(airport, month, model, seed, forecast)]


def main() -> None:
    """Write the table."""
    notebook.setup({})
    rows = [row for month in notebook.progress(MONTHS, "month") for row in month_of("JFK", month)]
    note = """rmse: over all 24 hours, first: one hour ahead, both in degrees
Celsius; jitter: mean absolute second difference along the horizon"""
    seeds = f"{SEEDS.start} to {SEEDS.stop - 1} (networks); 0 where there is one"
    write_table(
        __file__, pd.DataFrame(rows), seeds=seeds, budget="600 steps of 64 examples for each network", note=note
    )


if __name__ == "__main__":
    main()

"""``make bench``: ours beside what a user would pick instead, measured in one run, as a ratio.

Each row prepares its data once, checks that both ways give the same answer, and times them in turns, so that another
load on the machine hits both. The table goes to the screen and into README. Seconds depend on the machine, ratios less.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

from helpers import decisions, runs
from helpers.estimators import ScoreClassifier
from helpers.machine import ROOT

TABLE = re.compile(r"(?<=<!-- benchmarks: made by make bench -->\n).*?(?=<!-- end -->)", flags=re.DOTALL)


class Case(NamedTuple):
    """One row of the table; `aim` is how many times faster than the alternative we want to be."""

    what: str
    size: str
    alternative: str
    aim: float
    ours: Callable[[], object]
    theirs: Callable[[], object]
    same: Callable[[object, object], bool]


def scored(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and calibrated probabilities."""
    random = np.random.default_rng(0)
    y_prob = random.beta(0.6, 1.4, rows)
    return (random.random(rows) < y_prob).astype(np.int64), y_prob


def decision_cases() -> Iterator[Case]:
    """Chapter 02: the cost over all thresholds, and the calibration error."""
    y_true, y_prob = scored(1_000_000)
    grid = np.linspace(0, 1, 1000)

    def cost(truth: np.ndarray, labels: np.ndarray) -> float:
        _, fp, fn, _ = confusion_matrix(truth, labels, labels=[0, 1]).ravel()
        return float(10 * fp + 40 * fn) / len(truth)

    def on_grid(curve: object) -> np.ndarray:
        assert isinstance(curve, decisions.ThresholdCurve)
        # The last threshold that is not below the grid's: same calls, same cost.
        at = np.searchsorted(-curve.threshold, -grid, side="right") - 1
        return curve.cost(10, 40)[np.maximum(at, 0)]

    # Ten thresholds of the loop are timed, a thousand would take minutes: the loop is linear in them.
    some = grid[50::100]
    yield Case(
        "cost at all thresholds",
        "10^6 rows",
        "scikit-learn's confusion_matrix at 1,000 thresholds",
        100,
        lambda: decisions.threshold_curve(y_true, y_prob),
        lambda: Repeated([cost(y_true, (y_prob >= threshold).astype(np.int64)) for threshold in some], 100),
        lambda curve, costs: np.allclose(on_grid(curve)[50::100], costs.values),  # type: ignore[attr-defined]
    )
    few_true, few_prob = y_true[:20_000], y_prob[:20_000]
    model = ScoreClassifier().fit(few_prob[:, np.newaxis], few_true)
    tuned = TunedThresholdClassifierCV(
        model, scoring=make_scorer(cost, greater_is_better=False), thresholds=1000, cv="prefit", refit=False
    )

    def cost_of(threshold: float) -> float:
        return cost(few_true, (few_prob >= threshold).astype(np.int64))

    yield Case(
        "cheapest threshold",
        "20,000 rows",
        "TunedThresholdClassifierCV, 1,000 thresholds, fitted model",
        100,
        lambda: decisions.threshold_curve(few_true, few_prob).cheapest(10, 40)[0],
        lambda: tuned.fit(few_prob[:, np.newaxis], few_true).best_threshold_,
        lambda ours, theirs: cost_of(float(ours)) <= cost_of(float(theirs)),  # type: ignore[arg-type]
    )

    def from_curve() -> float:
        frequency, mean_prob = calibration_curve(y_true, y_prob, n_bins=15)
        rows = np.histogram(y_prob, np.linspace(0, 1, 16))[0]
        return float((np.abs(frequency - mean_prob) * rows[rows > 0]).sum() / len(y_prob))

    yield Case(
        "expected calibration error",
        "10^6 rows",
        "calibration_curve and a histogram",
        10,
        lambda: decisions.expected_calibration_error(y_true, y_prob),
        from_curve,
        lambda ours, theirs: abs(float(ours) - float(theirs)) < 1e-12,  # type: ignore[arg-type]
    )
    yield Case(
        "expected calibration error",
        "10^6 rows",
        "calibration_curve alone, without the counts",
        10,
        lambda: decisions.expected_calibration_error(y_true, y_prob),
        lambda: calibration_curve(y_true, y_prob, n_bins=15),
        lambda ours, theirs: True,
    )


class Repeated(NamedTuple):
    """A result of a part of the work; the whole takes `times` as long."""

    values: list[float]
    times: int


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    """Return the time of one call, scaled up if it did only a part, and its result."""
    started = time.perf_counter()
    result = call()
    passed = time.perf_counter() - started
    return passed * (result.times if isinstance(result, Repeated) else 1), result


def measure(case: Case, turns: int = 5) -> str:
    """Time both ways in turns; return a row of the table."""
    times: list[tuple[float, float]] = []
    for _ in range(turns):
        ours, answer = seconds(case.ours)
        theirs, other = seconds(case.theirs)
        if not case.same(answer, other):
            raise AssertionError(f"{case.what}: ours and {case.alternative} differ.")
        times.append((ours, theirs))
    ours, theirs = np.min(times, axis=0)
    ratio = theirs / ours
    met = "" if ratio >= case.aim else f" (aim {case.aim:g})"
    cells = (case.what, case.size, _shown(ours), case.alternative, _shown(theirs))
    return "| " + " | ".join((*cells, f"{ratio:,.{0 if ratio >= 10 else 1}f} times{met}")) + " |"


def _shown(duration: float) -> str:
    return f"{duration:.3g} s" if duration >= 1 else f"{duration * 1000:.3g} ms"


def main() -> None:
    """Measure everything, print the table, and write it into README."""
    lines = ["| what | size | ours | instead of | takes | ours is faster |", "|---|---|---|---|---|---|"]
    print(*lines, sep="\n")
    for case in decision_cases():
        lines.append(measure(case))
        print(lines[-1], flush=True)
    readme = ROOT / "README.md"
    table = "\n".join(lines) + "\n"
    runs.write_text(readme, TABLE.sub(lambda _: table, readme.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

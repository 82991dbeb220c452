"""Every figure, each with the sentence that stands in for it.

The gap: matplotlib draws; it does not say in words what is drawn, and a reader who cannot see the figure, or a diff
that cannot compare it, has only the words. Each function returns the figure and its sentence; `show` displays both.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import ScalarFormatter
from numpy.typing import ArrayLike
from scipy.stats import beta

from helpers.decisions import CalibrationBins, ThresholdCurve, apply_threshold, check_probabilities

__all__ = [
    "COLOURS",
    "bars",
    "image_strip",
    "intervals",
    "lines",
    "outlines",
    "png",
    "reliability",
    "road",
    "scores",
    "show",
    "threshold_trade",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette (2008), told apart under every common colour blindness."""

Described = tuple[Figure, str]


def show(described: Described) -> None:
    """Display a figure as PNG with its sentence as alternative text, and print the sentence under it.

    Parameters
    ----------
    described : tuple of Figure and str
        What the functions of this module return.
    """
    figure, sentence = described
    display(Image(png(figure), alt=sentence))
    print(textwrap.fill(sentence, 94, break_on_hyphens=False))


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, for a file or a widget."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def road() -> Described:
    """Draw the road from raw input to decision.

    Returns
    -------
    tuple of Figure and str
    """
    figure = Figure(figsize=(9.2, 3.1), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(0, 9.2)
    axes.set_ylim(0, 3.1)
    axes.axis("off")

    def box(x: float, y: float, text: str, colour: str = "#FFFFFF") -> None:
        shape = FancyBboxPatch(
            (x, y - 0.26),
            1.52,
            0.52,
            boxstyle="round,pad=0.02,rounding_size=0.1",
            facecolor=colour,
            edgecolor="#444444",
        )
        axes.add_patch(shape)
        axes.text(x + 0.76, y, text, ha="center", va="center", fontsize=9.5)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color="#444444", shrinkA=2))

    main = ["raw input", "preprocessing", "model", "probability", "decision"]
    for step, text in enumerate(main):
        box(0.1 + 1.86 * step, 2.6, text, "#CFE6F5" if text != "model" else "#FBE3C0")
        if step:
            arrow((1.62 + 1.86 * (step - 1), 2.6), (0.1 + 1.86 * step, 2.6))
    for y, (first, second) in ((1.85, ("mask", "objects")), (1.1, ("forecast", "smoothed forecast"))):
        box(5.68, y, first, "#CFE6F5")
        box(7.54, y, second, "#CFE6F5")
        arrow((5.32, 2.45), (5.68, y))
        arrow((7.2, y), (7.54, y))
    box(3.82, 0.4, "next model", "#FBE3C0")
    arrow((4.58, 2.32), (4.58, 0.68))
    axes.text(4.48, 1.45, "features", ha="right", va="center", fontsize=9.5, color="#444444")
    axes.text(
        5.68, 0.4, "one served graph holds all of it:\nno Python inside", va="center", fontsize=9.5, color="#444444"
    )
    sentence = (
        "The road: raw input, preprocessing, model, then probability and decision, mask and objects, or forecast and"
        " smoothed forecast; the model's output can also be a feature of the next model."
    )
    return figure, sentence


def image_strip(images: Sequence[ArrayLike], titles: Sequence[str]) -> Described:
    """Draw images side by side, each at its own proportions.

    Parameters
    ----------
    images : sequence of array-like of shape (height, width) or (height, width, 3)
        uint8, or float in [0, 1].
    titles : sequence of str
        One for each image.

    Returns
    -------
    tuple of Figure and str
    """
    if len(images) != len(titles):
        raise ValueError(f"there are {len(images)} images and {len(titles)} titles; one title for each is needed.")
    figure = Figure(figsize=(1.75 * len(images), 2.15), layout="constrained")
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for place, image, title in zip(axes, images, titles, strict=True):
        place.imshow(np.asarray(image), cmap="gray" if np.ndim(image) == 2 else None)
        place.set_title(title, fontsize=9)
        place.axis("off")
    flat = [title.replace("\n", " ") for title in titles]
    return figure, f"Images, from left to right: {'; '.join(flat)}."


def outlines(images: Sequence[ArrayLike], masks: Mapping[str, Sequence[ArrayLike]], titles: Sequence[str]) -> Described:
    """Draw images side by side, with the outlines of one or two masks on each.

    Parameters
    ----------
    images : sequence of array-like of shape (height, width, 1 or 3)
        Of any range; each is stretched to its own.
    masks : mapping of str to sequence of array-like of shape (height, width)
        Name to one mask for each image: the first is drawn with a solid line, the second with a dashed one.
    titles : sequence of str
        One for each image.

    Returns
    -------
    tuple of Figure and str
    """
    lengths = {len(images), len(titles), *map(len, masks.values())}
    if len(lengths) > 1:
        raise ValueError(f"images, masks and titles must be as many; got {sorted(lengths)}.")
    # Blue and orange, light enough for a dark image.
    styles: tuple[tuple[str, Any], ...] = (("#56B4E9", "solid"), ("#E69F00", "dashed"))
    tallest = max(np.shape(image)[0] / np.shape(image)[1] for image in images)
    height = 1.9 * float(np.clip(tallest, 0.3, 2)) + 1
    figure = Figure(figsize=(1.9 * len(images), height), layout="constrained")
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for number, (place, image, title) in enumerate(zip(axes, images, titles, strict=True)):
        values = np.asarray(image, dtype=np.float64)
        values = (values - values.min()) / (np.ptp(values) or 1)
        place.imshow(values[..., 0] if values.shape[-1] == 1 else values, cmap="gray")
        for (colour, style), drawn in zip(styles, masks.values(), strict=False):
            if np.any(drawn[number]):
                place.contour(
                    np.asarray(drawn[number], dtype=float), [0.5], colors=colour, linestyles=style, linewidths=1
                )
        place.set_title(title, fontsize=9)
        place.axis("off")
    handles = [
        Line2D([], [], color=colour, linestyle=style, label=name)
        for (colour, style), name in zip(styles, masks, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    flat = [title.replace("\n", " ") for title in titles]
    return figure, f"Images, from left to right, with the outlines of {' and '.join(masks)}: {'; '.join(flat)}."


def scores(
    y_true: ArrayLike, y_prob: ArrayLike, threshold: float, class_names: tuple[str, str] = ("0", "1")
) -> Described:
    """Draw how the probabilities of the two classes lie on either side of the threshold.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of class 1.
    threshold : float
        In [0, 1].
    class_names : tuple of str
        Of class 0 and class 1.

    Returns
    -------
    tuple of Figure and str
    """
    y, p = np.asarray(y_true), check_probabilities(y_prob)
    labels = apply_threshold(p, threshold)
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    bins = [edge / 25 for edge in range(26)]
    for label, hatch in ((0, ""), (1, "///")):
        axes.hist(
            p[y == label],
            bins,
            alpha=0.6,
            color=COLOURS[label],
            hatch=hatch,
            edgecolor="white",
            label=class_names[label],
        )
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:g}")
    axes.set_yscale("symlog", linthresh=5)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_yticks([tick for tick in (0, 2, 5, 10, 20, 50, 100, 1000, 10_000) if tick <= axes.get_ylim()[1]])
    axes.set_xlabel(f"probability of {class_names[1]}")
    axes.set_ylabel("rows (log scale above 5)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    sentence = (
        f"{(labels[y == 1] == 1).sum()} of {(y == 1).sum()} {class_names[1]} rows reach the threshold {threshold:g},"
        f" and so do {(labels[y == 0] == 1).sum()} of {(y == 0).sum()} {class_names[0]} rows."
    )
    return figure, sentence


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    x_label: str,
    y_label: str,
    sentence: str,
    *,
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    log_x: bool = False,
) -> Described:
    """Draw curves over a common axis, each with its own dash and colour.

    Parameters
    ----------
    x : array-like of shape (n,)
    series : mapping of str to array-like of shape (n,)
        Name to values; a curve ends where its values are not finite.
    x_label, y_label : str
        With units.
    sentence : str
        What the figure shows.
    bands : mapping of str to (low, high), optional
        For some of the curves, the limits of a shaded band, each of shape (n,).
    log_x : bool
        A logarithmic axis, with a tick at each x.

    Returns
    -------
    tuple of Figure and str
    """
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    styles: tuple[Any, ...] = ("-", "--", ":", "-.")
    for number, (name, values) in enumerate(series.items()):
        finite = np.where(np.isfinite(values), values, np.nan)
        style, colour = styles[number % len(styles)], COLOURS[number % len(COLOURS)]
        axes.plot(np.asarray(x), finite, style, color=colour, linewidth=2, label=name)
        if bands and name in bands:
            low, high = map(np.asarray, bands[name])
            axes.fill_between(np.asarray(x), low, high, color=colour, alpha=0.15, linewidth=0)
    if log_x:
        axes.set_xscale("log")
        axes.set_xticks(np.asarray(x), [f"{tick:,g}" for tick in np.asarray(x)], minor=False)
        axes.minorticks_off()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure, sentence


def bars(values: Mapping[str, float], x_label: str, sentence: str) -> Described:
    """Draw one horizontal bar for each name, with its value at the end.

    Parameters
    ----------
    values : mapping of str to number
        From top to bottom.
    x_label : str
        With units.
    sentence : str
        What the figure shows.

    Returns
    -------
    tuple of Figure and str
    """
    figure = Figure(figsize=(7.6, 0.5 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    container = axes.barh(list(values), list(values.values()), color=COLOURS[0], height=0.65)
    axes.bar_label(container, fmt="{:,.4g}", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel(x_label)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, sentence


def intervals(
    panels: Mapping[str, Mapping[str, tuple[float, float, float]]], sentence: str, *, reference: float | None = None
) -> Described:
    """Draw means with their intervals: a panel for each score, a row for each model, the same rows in all panels.

    Parameters
    ----------
    panels : mapping of str to mapping of str to (mean, low, high)
        The score and its unit; in it, names from top to bottom. A name that a panel lacks has an empty row there.
    sentence : str
        What the figure shows.
    reference : float, optional
        Where a dotted line is drawn in every panel.

    Returns
    -------
    tuple of Figure and str
    """
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    figure = Figure(figsize=(min(9.4, 3 + 3.2 * len(panels)), 0.8 + 0.28 * len(names)), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, rows), colour in zip(every, panels.items(), COLOURS, strict=False):
        places = [names.index(name) for name in rows]
        mean, low, high = np.array(list(rows.values()), dtype=float).T
        if reference is not None:
            axes.axvline(reference, color="grey", linestyle=":")
        axes.errorbar(mean, places, xerr=[mean - low, high - mean], fmt="o", color=colour, capsize=3, markersize=5)
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylim(len(names) - 0.5, -0.5)
    return figure, sentence


def threshold_trade(curve: ThresholdCurve, threshold: float, cost_fp: float, cost_fn: float) -> Described:
    """Draw what a threshold does: the confusion matrix, the cost over all thresholds, ROC and precision-recall.

    Parameters
    ----------
    curve : ThresholdCurve
    threshold : float
        In [0, 1]; marked in all panels.
    cost_fp, cost_fn : float

    Returns
    -------
    tuple of Figure and str
    """
    # The curve falls: the last threshold that is not below the chosen one gives the same calls.
    at = max(int(np.searchsorted(-curve.threshold, -threshold, side="right")) - 1, 0)
    cost = curve.cost(cost_fp, cost_fn)
    best, least = curve.cheapest(cost_fp, cost_fn)
    figure = Figure(figsize=(9.2, 2.7), layout="constrained")
    matrix, over_all, roc, trade = figure.subplots(1, 4)
    counts = np.array([[curve.tn[at], curve.fp[at]], [curve.fn[at], curve.tp[at]]], dtype=float)
    matrix.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum())
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.sum() / 2 else "black"
        matrix.text(column, row, f"{count:g}", ha="center", va="center", color=colour)
    matrix.set_xticks([0, 1], ["called 0", "called 1"])
    matrix.set_yticks([0, 1], ["is 0", "is 1"])
    over_all.step(curve.threshold, cost, where="pre", color=COLOURS[0])
    over_all.axvline(best, color=COLOURS[2], linestyle=":")
    over_all.set_xlabel("threshold")
    over_all.set_ylabel("cost a row")
    roc.plot(curve.false_positive_rate, curve.recall, color=COLOURS[0])
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    roc.set_xlabel("false positive rate")
    roc.set_ylabel("recall")
    trade.plot(curve.recall, curve.precision, color=COLOURS[0])
    trade.set_ylim(0, 1.05)
    trade.set_xlabel("recall")
    trade.set_ylabel("precision")
    here = {
        over_all: (threshold, cost[at]),
        roc: (curve.false_positive_rate[at], curve.recall[at]),
        trade: (curve.recall[at], curve.precision[at]),
    }
    for axes, (x, y) in here.items():
        axes.plot(x, y, "o", color=COLOURS[1])
        axes.spines[["top", "right"]].set_visible(False)
    sentence = (
        f"At threshold {threshold:.3g} a row costs {cost[at]:.3f}: {curve.fp[at]:g} false alarms and {curve.fn[at]:g}"
        f" misses among {counts.sum():g} rows; the cheapest threshold is {best:.3f} (dotted) at {least:.3f}."
    )
    return figure, sentence


def reliability(models: Mapping[str, CalibrationBins]) -> Described:
    """Draw promised probability against observed frequency, with the numbers of rows below.

    Parameters
    ----------
    models : mapping of str to CalibrationBins
        One to four; the bars are 95 % intervals of the frequency (Clopper and Pearson).

    Returns
    -------
    tuple of Figure and str
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="calibrated")
    parts = []
    for (name, bins), colour, marker in zip(models.items(), COLOURS, "os^D", strict=False):
        positives = bins.frequency * bins.rows
        low = np.nan_to_num(beta.ppf(0.025, positives, bins.rows - positives + 1), nan=0)
        high = np.nan_to_num(beta.ppf(0.975, positives + 1, bins.rows - positives), nan=1)
        interval = np.abs([bins.frequency - low, high - bins.frequency])
        above.errorbar(
            bins.mean_prob, bins.frequency, yerr=interval, fmt=marker, color=colour, capsize=2, alpha=0.85, label=name
        )
        below.plot(bins.mean_prob, bins.rows, marker=marker, linestyle="none", color=colour)
        outside = int(((bins.mean_prob < low) | (bins.mean_prob > high)).sum())
        parts.append(f"for {name}, {outside} of {len(bins.rows)} bins")
    above.set_ylabel("observed frequency")
    below.set_ylabel("rows")
    below.set_xlabel("mean probability in the bin")
    below.margins(y=0.2)
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure, f"Bins whose promise lies outside the 95 % interval of what came: {'; '.join(parts)}."

"""Figures, each with its alternative text.

The gap: matplotlib draws; it does not say in words what is drawn, and IPython's images lose their alternative text in
JupyterLab and in nbconvert's default template. A reader who cannot see the figure, or a diff that cannot compare it,
has only the words. Each function but `show` and `img_tag` returns the figure and its alternative text; `show` displays
both.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter
from numpy.typing import ArrayLike
from scipy.stats import beta
from sklearn.utils import column_or_1d

from helpers.decisions import CalibrationBins, ThresholdCurve, apply_threshold, check_numbers, check_real, check_rows

# Okabe and Ito's palette (2008), told apart under every common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Described = tuple[Figure, str]


def show(described: Described) -> None:
    """Display a figure with its alternative text, and print the text under it.

    The picture is stored once, inside HTML, as that is what carries the alternative text to a screen reader.

    Parameters
    ----------
    described : tuple of Figure and str
        What the functions of this module return.
    """
    _, alt_text = described
    display({"text/html": img_tag(described), "text/plain": alt_text}, raw=True)
    print(textwrap.fill(alt_text, 94, break_on_hyphens=False))


def img_tag(described: Described) -> str:
    """Return a figure as an HTML element with its alternative text, for ``ipywidgets.HTML`` or a page.

    The gap: ``ipywidgets.Image`` has no alternative text.

    Parameters
    ----------
    described : tuple of Figure and str
        What the functions of this module return.
    """
    figure, alt_text = described
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt_text)}" src="data:image/png;base64,{data}">'


def image_strip(images: Sequence[ArrayLike], titles: Sequence[str]) -> Described:
    """Draw images side by side, each at its own proportions.

    Parameters
    ----------
    images : sequence of array-like of shape (height, width) or (height, width, 1 or 3)
        uint8, or float in [0, 1].
    titles : sequence of str
        One for each image.

    Returns
    -------
    tuple of Figure and str
    """
    if len(images) != len(titles):
        raise ValueError(f"there are {len(images)} images and {len(titles)} titles; one title for each is needed.")
    figure, alt_text = _side_by_side(images, titles, 1.75, 2.15)
    return figure, f"Images, from left to right: {alt_text}."


def _side_by_side(images: Sequence[ArrayLike], titles: Sequence[str], width: float, height: float) -> Described:
    """Draw images in a row, `width` inches each; return the titles in one line, too."""
    figure, every = _subplots(width * len(images), height, 1, len(images))
    for axes, image, title in zip(every, map(np.asarray, images), titles, strict=True):
        axes.imshow(image, cmap="gray" if image.shape[2:] in ((), (1,)) else None)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    return figure, "; ".join(title.replace("\n", " ") for title in titles)


def outlines(images: Sequence[ArrayLike], masks: Mapping[str, Sequence[ArrayLike]], titles: Sequence[str]) -> Described:
    """Draw images side by side, with the outlines of one or two masks on each.

    Parameters
    ----------
    images : sequence of array-like of shape (height, width, 1 or 3)
        Of any range; each is stretched to its own.
    masks : mapping of str to sequence of array-like of shape (height, width) or (height, width, 1)
        Name to one mask for each image: the first is drawn with a solid line, the second with a dashed one.
    titles : sequence of str
        One for each image.

    Returns
    -------
    tuple of Figure and str

    Raises
    ------
    ValueError
        Not as many masks as images, more than two kinds of masks, or a mask of another size than its image.
    """
    lengths = {len(images), len(titles), *map(len, masks.values())}
    if len(lengths) > 1 or len(masks) > 2:
        raise ValueError(f"images, masks and titles must be as many; got {sorted(lengths)}, and {len(masks)} kinds.")
    arrays = [np.asarray(image, dtype=np.float64) for image in images]
    stretched = [(a - a.min()) / (np.ptp(a) or 1) for a in arrays]
    tallest = max(a.shape[0] / a.shape[1] for a in arrays)
    figure, alt_text = _side_by_side(stretched, titles, 1.9, 1.9 * float(np.clip(tallest, 0.3, 2)) + 1)
    handles = []
    # Blue and orange, light enough for a dark image.
    styles: tuple[tuple[str, Any], ...] = (("#56B4E9", "solid"), ("#E69F00", "dashed"))
    for (name, drawn), (colour, style) in zip(masks.items(), styles, strict=False):
        for axes, image, mask in zip(figure.axes, arrays, map(check_real, drawn), strict=True):
            if mask.shape not in (image.shape[:2], (*image.shape[:2], 1)):
                raise ValueError(f"mask {name!r} of shape {mask.shape} lies on an image of shape {image.shape}.")
            if np.any(mask):
                axes.contour(mask.reshape(image.shape[:2]), [0.5], colors=colour, linestyles=style, linewidths=1)
        handles.append(Line2D([], [], color=colour, linestyle=style, label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure, f"Images, from left to right, with the outlines of {' and '.join(masks)}: {alt_text}."


def scores(y_true: Any, y_prob: Any, threshold: float, class_names: tuple[str, str] = ("0", "1")) -> Described:
    """Draw how the probabilities of the two classes lie on either side of the threshold.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, 1)
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

    Raises
    ------
    TypeError, ValueError
        As in `helpers.decisions.check_rows`, or another threshold.
    """
    y, p = check_rows(y_true, y_prob)
    predicted = apply_threshold(y_prob, threshold) == 1
    figure, (axes,) = _subplots(7, 2.6)
    axes.set(xlabel=f"probability of {class_names[1]}", ylabel="rows (log scale above 5)")
    for label, hatch in ((0, ""), (1, "///")):
        style: dict[str, Any] = {"color": COLOURS[label], "hatch": hatch, "label": class_names[label]}
        axes.hist(p[y == label], [edge / 25 for edge in range(26)], alpha=0.6, edgecolor="white", **style)
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:g}")
    axes.set_yscale("symlog", linthresh=5)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_yticks([tick for tick in (0, 2, 5, 10, 20, 50, 100, 1000, 10_000) if tick <= axes.get_ylim()[1]])
    figure.legend(loc="outside right upper", frameon=False)
    negative, positive = (f"{predicted[y == k].sum()} of {(y == k).sum()} {class_names[k]} rows" for k in (0, 1))
    return figure, f"{positive} reach the threshold {threshold:g}, and so do {negative}."


def _subplots(width: float, height: float, *shape: int, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of so many inches, and its axes in one row, without the lines above and on the right."""
    figure = Figure(figsize=(width, height), layout="constrained")
    every = figure.subplots(*shape, squeeze=False, **options).ravel()
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, every


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    x_label: str,
    y_label: str,
    alt_text: str,
    *,
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    log_x: bool = False,
) -> Described:
    """Draw curves over a common axis, each with its own dash and colour.

    Parameters
    ----------
    x : array-like of shape (n,)
    series : mapping of str to array-like of shape (n,) or (n, 1)
        Name to values; a curve ends where its values are masked or not finite.
    x_label, y_label : str
        With units.
    alt_text : str
        What the figure shows.
    bands : mapping of str to (low, high), optional
        For some of the curves, the limits of a shaded band, each of shape (n,).
    log_x : bool
        A logarithmic axis, with a tick at each x.

    Returns
    -------
    tuple of Figure and str

    Raises
    ------
    TypeError, ValueError
        Values that are no real numbers; another shape.
    """
    figure, (axes,) = _subplots(7, 2.8)
    axes.set(xlabel=x_label, ylabel=y_label)
    styles: tuple[Any, ...] = ("-", "--", ":", "-.")
    for number, (name, given) in enumerate(series.items()):
        values = column_or_1d(check_real(given, name))
        finite = np.where(np.isfinite(values), values, np.nan)
        style, colour = styles[number % len(styles)], COLOURS[number % len(COLOURS)]
        axes.plot(np.asarray(x), finite, style, color=colour, linewidth=2, label=name)
        if bands and name in bands:
            low, high = (column_or_1d(check_real(limit, name)) for limit in bands[name])
            axes.fill_between(np.asarray(x), low, high, color=colour, alpha=0.15, linewidth=0)
    if log_x:
        axes.set_xscale("log")
        axes.set_xticks(np.asarray(x), [f"{tick:,g}" for tick in np.asarray(x)], minor=False)
        axes.minorticks_off()
    figure.legend(loc="outside right upper", frameon=False)
    return figure, alt_text


def bars(values: Mapping[str, float], x_label: str, alt_text: str) -> Described:
    """Draw one horizontal bar for each name, with its value at the end.

    Parameters
    ----------
    values : mapping of str to number
        From top to bottom.
    x_label : str
        With units.
    alt_text : str
        What the figure shows.

    Returns
    -------
    tuple of Figure and str
    """
    figure, (axes,) = _subplots(7.6, 0.5 + 0.3 * len(values))
    container = axes.barh(list(values), column_or_1d(check_real(list(values.values()))), color=COLOURS[0], height=0.65)
    axes.bar_label(container, fmt="{:,.4g}", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel(x_label)
    axes.tick_params(axis="y", length=0)
    return figure, alt_text


def intervals(panels: Mapping[str, Mapping[str, Any]], alt_text: str, *, reference: float | None = None) -> Described:
    """Draw means with their intervals: a panel for each score, a row for each model, the same rows in all panels.

    Parameters
    ----------
    panels : mapping of str to mapping of str to (mean, low, high)
        The score and its unit; in it, names from top to bottom. A name that a panel lacks has an empty row there.
    alt_text : str
        What the figure shows.
    reference : float, optional
        Where a dotted line is drawn in every panel.

    Returns
    -------
    tuple of Figure and str
    """
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    figure, every = _subplots(min(9.4, 3 + 3.2 * len(panels)), 0.8 + 0.28 * len(names), 1, len(panels), sharey=True)
    for axes, (label, rows), colour in zip(every, panels.items(), COLOURS * len(panels), strict=False):
        places = [names.index(name) for name in rows]
        mean, low, high = np.array(list(rows.values()), dtype=float).T
        if reference is not None:
            axes.axvline(reference, color="grey", linestyle=":")
        axes.errorbar(mean, places, xerr=[mean - low, high - mean], fmt="o", color=colour, capsize=3, markersize=5)
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=5)
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylim(len(names) - 0.5, -0.5)
    return figure, alt_text


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
    check_numbers("a number in [0, 1]", 0, 1, threshold=threshold)
    # The curve's thresholds fall: the last one that is not below the chosen one gives the same predictions.
    at = max(int(np.searchsorted(-curve.threshold, -threshold, side="right")) - 1, 0)
    cost = curve.cost(cost_fp, cost_fn)
    best, least = curve.min_cost(cost_fp, cost_fn)
    figure, (matrix, over_all, roc, trade) = _subplots(9.2, 2.7, 1, 4)
    matrix.spines[:].set_visible(True)
    counts = np.array([[curve.tn[at], curve.fp[at]], [curve.fn[at], curve.tp[at]]], dtype=float)
    matrix.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum())
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.sum() / 2 else "black"
        matrix.text(column, row, f"{count:g}", ha="center", va="center", color=colour)
    matrix.set(xticks=[0, 1], yticks=[0, 1], xlabel="predicted class", ylabel="true class")
    over_all.step(curve.threshold, cost, where="pre", color=COLOURS[0])
    over_all.axvline(best, color=COLOURS[2], linestyle=":")
    over_all.set(xlabel="threshold", ylabel="cost a row")
    roc.plot(curve.false_positive_rate, curve.recall, color=COLOURS[0])
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    roc.set(xlabel="false positive rate", ylabel="recall")
    trade.plot(curve.recall, curve.precision, color=COLOURS[0])
    trade.set(xlabel="recall", ylabel="precision", ylim=(0, 1.05))
    over_all.plot(threshold, cost[at], "o", color=COLOURS[1])
    roc.plot(curve.false_positive_rate[at], curve.recall[at], "o", color=COLOURS[1])
    trade.plot(curve.recall[at], curve.precision[at], "o", color=COLOURS[1])
    wrong = f"{curve.fp[at]:g} false alarms and {curve.fn[at]:g} misses among {counts.sum():g} rows"
    cheapest = f"the cheapest threshold is {best:.3f} (dotted) at {least:.3f}"
    return figure, f"At threshold {threshold:.3g} a row costs {cost[at]:.3f}: {wrong}; {cheapest}."


def reliability(models: Mapping[str, CalibrationBins]) -> Described:
    """Draw predicted probability against observed frequency, with the numbers of rows below.

    Parameters
    ----------
    models : mapping of str to CalibrationBins
        The bars are 95 % intervals of the frequency (Clopper and Pearson).

    Returns
    -------
    tuple of Figure and str
    """
    figure, (above, below) = _subplots(7, 4, 2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="calibrated")
    parts = []
    for (name, bins), colour, marker in zip(models.items(), COLOURS * len(models), "os^D" * len(models), strict=False):
        positives = bins.frequency * bins.rows
        low = np.nan_to_num(beta.ppf(0.025, positives, bins.rows - positives + 1), nan=0)
        high = np.nan_to_num(beta.ppf(0.975, positives + 1, bins.rows - positives), nan=1)
        interval = np.abs([bins.frequency - low, high - bins.frequency])
        style: dict[str, Any] = {"fmt": marker, "color": colour, "capsize": 2, "alpha": 0.85, "label": name}
        above.errorbar(bins.mean_prob, bins.frequency, yerr=interval, **style)
        below.plot(bins.mean_prob, bins.rows, marker=marker, linestyle="none", color=colour)
        outside = int(((bins.mean_prob < low) | (bins.mean_prob > high)).sum())
        parts.append(f"for {name}, {outside} of {len(bins.rows)} bins")
    above.set_ylabel("observed frequency")
    below.set(xlabel="mean predicted probability in the bin", ylabel="rows")
    below.margins(y=0.2)
    below.set_ylim(bottom=0)
    figure.legend(loc="outside right upper", frameon=False)
    return figure, f"Predicted probability outside the 95 % interval of the observed frequency: {'; '.join(parts)}."

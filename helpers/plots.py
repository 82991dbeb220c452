"""Figures, each with its alternative text.

The gap: matplotlib draws; it does not say in words what is drawn, and IPython's images lose their alternative text in
JupyterLab and in nbconvert's default template. A reader who cannot see the figure, or a diff that cannot compare it,
has only the words. Each function but `show` and `img_tag` returns the figure and its alternative text; `show` displays
both.

Words are set in 9 points or more, in figures of at most 8 inches (but for rows of images), so that they can be read on
a page of 700 pixels; the ground is white in a dark theme, too. ``title`` says what is seen or asked; an empty one is
left out.
"""

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.core.pylabtools import print_figure
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from skimage.color import hsv2rgb, label2rgb
from sklearn.utils import column_or_1d

from helpers import decisions

# Okabe and Ito's palette (2008), told apart under every common colour blindness; the lightest comes last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")
# As many: curves are told apart without colours, too.
DASHES = ("-", "--", ":", "-.", (0, (8, 2, 1, 2, 1, 2)), (0, (1, 4)))

Described = tuple[Figure, str]
Names = tuple[str, str]
# From a dot to its label: to the right or left, above or below.
DIRECTIONS = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1], [0, 1.2], [0, -1.2]])


def show(described: Described) -> None:
    """Display a figure with its alternative text, and print the text under it.

    The picture is stored once, inside HTML, as that is what carries the alternative text to a screen reader.

    Parameters
    ----------
    described : tuple of Figure and str
        What the functions of this module return.
    """
    display({"text/html": img_tag(described), "text/plain": described[1]}, raw=True)
    print(textwrap.fill(described[1], 94, break_on_hyphens=False))


def img_tag(described: Described) -> str:
    """Return a figure as an HTML element with its alternative text, for ``ipywidgets.HTML`` or a page.

    The gap: ``ipywidgets.Image`` has no alternative text.

    Parameters
    ----------
    described : tuple of Figure and str
        What the functions of this module return.
    """
    data = print_figure(described[0], "png", bbox_inches=None, base64=True, dpi=110)
    return f'<img alt="{html.escape(described[1])}" src="data:image/png;base64,{data}">'


def coloured(image: ArrayLike, labels: ArrayLike) -> NDArray[np.floating]:
    """Paint each object over its image, in a colour of its own.

    The gap: ``skimage.color.label2rgb`` has ten colours, takes grey values from 0 to 1, and paints -1, too.

    Parameters
    ----------
    image : array-like of shape (height, width, channels)
        Of any range: it is stretched from its darkest to its brightest hundredth.
    labels : array-like of shape (height, width)
        0 for the background, below 0 where nobody knows.

    Returns
    -------
    ndarray of shape (height, width, 3), from 0 to 1
    """
    grey = np.asarray(image, dtype=np.float64).mean(axis=-1)
    low, high = np.percentile(grey, (1, 99))
    grey = np.clip((grey - low) / ((high - low) or 1), 0, 1)
    shown = np.maximum(labels, 0)
    # Steps of the golden ratio around the circle of hues: no two alike, and following numbers far apart.
    hues = np.arange(1, shown.max(initial=1) + 1) * 0.618 % 1
    colours = hsv2rgb(np.stack([hues, np.full_like(hues, 0.8), np.ones_like(hues)], axis=-1))
    return label2rgb(shown, grey, colors=list(colours), alpha=0.5, bg_label=0)


def image_strip(images: Sequence[ArrayLike], titles: Sequence[str], alt_text: str = "") -> Described:
    """Draw images side by side, each at its own proportions.

    Parameters
    ----------
    images : sequence of array-like of shape (height, width) or (height, width, 1 or 3)
        uint8, or float in [0, 1].
    titles : sequence of str
        One for each image.
    alt_text : str
        What is seen; when left out, the titles.

    Returns
    -------
    tuple of Figure and str
    """
    if len(images) != len(titles):
        raise ValueError(f"there are {len(images)} images and {len(titles)} titles; one title for each is needed.")
    figure, listed = _side_by_side(images, titles, 1.75, 2.15)
    return figure, alt_text or f"Images, from left to right: {listed}."


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
    # Blue and orange, light enough for a dark image.
    for (name, drawn), colour, style in zip(masks.items(), ("#56B4E9", "#E69F00"), ("solid", "dashed"), strict=False):
        for axes, image, mask in zip(figure.axes, arrays, map(decisions.check_real, drawn), strict=True):
            if mask.shape not in (image.shape[:2], (*image.shape[:2], 1)):
                raise ValueError(f"mask {name!r} of shape {mask.shape} lies on an image of shape {image.shape}.")
            if np.any(mask):
                axes.contour(mask.reshape(image.shape[:2]), [0.5], colors=colour, linestyles=style, linewidths=1)
        figure.axes[0].plot([], [], color=colour, linestyle=style, label=name)
    _legend(figure)
    return figure, f"Images, from left to right, with the outlines of {' and '.join(masks)}: {alt_text}."


def scores(y_true: Any, y_prob: Any, threshold: Any, class_names: Names = ("0", "1"), *, title: str = "") -> Described:
    """Draw how the probabilities of the two classes lie on either side of one or more thresholds.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, 1)
        0 or 1.
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of class 1.
    threshold : float or mapping of str to float
        In [0, 1]; several with a label each.
    class_names : tuple of str
        Of class 0 and class 1.
    title : str

    Returns
    -------
    tuple of Figure and str

    Raises
    ------
    TypeError, ValueError
        As in `helpers.decisions.check_rows`, or another threshold.
    """
    y, p = decisions.check_rows(y_true, y_prob)
    axis = {"xlabel": f"the model's output for {class_names[1]}", "ylabel": "share of the class's rows"}
    figure, (axes,) = _subplots(7, 3.2, title=title, subplot_kw=axis)
    # Of each class its own share: so a rare one is seen too, and what lies on the right of a line is its rate.
    styles: Any = {"color": "#9CC9E3"}, {"fill": False, "hatch": "///", "edgecolor": COLOURS[1]}
    for k, style in enumerate(styles):
        part = p[y == k]
        weights = np.full(len(part), 1 / max(len(part), 1))
        axes.hist(part, np.arange(26) / 25, weights=weights, histtype="stepfilled", label=class_names[k], **style)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    parts, at = [], {}
    for name, value in (threshold if isinstance(threshold, Mapping) else {"": threshold}).items():
        reach = decisions.apply_threshold(y_prob, value) == 1
        negative, positive = (f"{reach[y == k].sum()} of {(y == k).sum()} {class_names[k]} rows" for k in (0, 1))
        parts.append(f"{positive} reach the threshold {value:g}{name and f' ({name})'}, and so do {negative}")
        at[f"{name or 'threshold'} {value:g}"] = value
    _annotate(axes, {}, at)
    _legend(figure)
    return figure, "; ".join(parts) + "."


def _subplots(width: float, height: float, *shape: int, title: str = "", **options: Any) -> tuple[Figure, Any]:
    """Return a figure of so many inches, and its axes in one row, without the lines above and on the right."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, int(10 * width)), x=0.01, ha="left", fontsize=11, weight="bold")
    every = figure.subplots(*shape, squeeze=False, **options).ravel()
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_prop_cycle(color=COLOURS, linestyle=DASHES)
    return figure, every


def _legend(figure: Figure) -> None:
    """Name what is drawn below the axes, where long names leave them their width."""
    columns = 13 * figure.get_figwidth() / (9 + max(map(len, figure.axes[0].get_legend_handles_labels()[1])))
    figure.legend(loc="outside lower left", ncols=int(columns) or 1, frameon=False, handlelength=3)


def _annotate(axes: Any, marks: Mapping[str, tuple[float, float]], at: Mapping[str, float]) -> None:
    """Draw dots and vertical lines with their labels, once the curves and scales are there."""
    for number, (label, x) in enumerate(sorted(at.items(), key=lambda item: item[1])):
        axes.axvline(x, color="black", linestyle=(":", "--", "-.")[number % 3], linewidth=1.2)
        # Above the axes there are no curves; each label is higher than the one before, as two lines may be near.
        axes.annotate(label, (x, 1), (0, 4 + 13 * number), axes.get_xaxis_transform(), "offset points", ha="center")
    for label, point in marks.items():
        axes.plot(*point, "o", color="black")
        # The label goes where it covers the least of what is drawn; the frame counts nine times.
        ink = [(a.get_transform() - axes.transAxes).transform_path(a.get_path()) for a in [axes.patch] * 9 + axes.lines]
        points = [path.interpolated(1 + 500 // len(path)).vertices[:: 1 + len(path) // 500] for path in ink]
        # Half its size in points, which are about 1.4 pixels; what stands above and below will shrink the axes' height.
        half = np.array([3 * len(label) + 6, 10])
        near = (np.concatenate(points) - points[-1]) * axes.bbox.size / (half * [1.3, 1.9]) - DIRECTIONS[:, None]
        offset = DIRECTIONS[(np.abs(near) < 1).all(axis=2).sum(axis=1).argmin()] * half
        ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        axes.annotate(label, point, offset, textcoords="offset points", ha="center", va="center", bbox=ground)


def lines(
    x: ArrayLike,
    series: Mapping[str, Any],
    x_label: str,
    y_label: str,
    alt_text: str,
    *,
    title: str = "",
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    log_x: bool = False,
    marks: Mapping[str, tuple[float, float]] | None = None,
    at: Mapping[str, float] | None = None,
) -> Described:
    """Draw curves over a common axis, each with its own dash and colour.

    Parameters
    ----------
    x : array-like of shape (n,)
    series : mapping of str to array-like of shape (n,) or (n, 1)
        Name to values; a curve ends where its values are masked or not finite. A tuple of two arrays is x and y of a
        curve that has its own x.
    x_label, y_label : str
        With units.
    alt_text : str
        What the figure shows.
    title : str
    bands : mapping of str to (low, high), optional
        For some of the curves, the limits of a shaded band, each of shape (n,).
    log_x : bool
        A logarithmic axis, with a tick at each x.
    marks : mapping of str to (x, y), optional
        Points to be marked by a dot, each with its label beside it.
    at : mapping of str to float, optional
        Places on the x axis to be marked by a vertical line, each with its label at the top: dotted, dashed and
        dash-dotted from left to right.

    Returns
    -------
    tuple of Figure and str

    Raises
    ------
    TypeError, ValueError
        Values that are no real numbers; another shape.
    """
    figure, (axes,) = _subplots(7, 3.2, title=title, subplot_kw={"xlabel": x_label, "ylabel": y_label, "ymargin": 0.1})
    for name, given in series.items():
        across, values = given if isinstance(given, tuple) and np.ndim(given[0]) else (x, given)
        values = column_or_1d(decisions.check_real(values, name))
        (curve,) = axes.plot(np.asarray(across), np.where(np.isfinite(values), values, np.nan), linewidth=2, label=name)
        if bands and name in bands:
            low, high = (column_or_1d(decisions.check_real(limit, name)) for limit in bands[name])
            axes.fill_between(np.asarray(across), low, high, color=curve.get_color(), alpha=0.15, linewidth=0)
    if log_x:
        axes.set(xscale="log", xticks=np.asarray(x), xticklabels=[f"{tick:,g}" for tick in np.asarray(x)])
        axes.minorticks_off()
    _annotate(axes, marks or {}, at or {})
    _legend(figure)
    return figure, alt_text


def bars(values: Mapping[str, float], x_label: str, alt_text: str, *, title: str = "") -> Described:
    """Draw one horizontal bar for each name, with its value at the end.

    Parameters
    ----------
    values : mapping of str to number
        From top to bottom.
    x_label : str
        With units.
    alt_text : str
        What the figure shows.
    title : str

    Returns
    -------
    tuple of Figure and str
    """
    figure, (axes,) = _subplots(7, 0.8 + 0.3 * len(values), title=title, subplot_kw={"xlabel": x_label})
    container = axes.barh(list(values), column_or_1d(decisions.check_real(list(values.values()))), height=0.65)
    axes.bar_label(container, fmt="{:,.4g}", padding=3)
    axes.set(xmargin=0.1, ylim=(len(values) - 0.5, -0.5))
    return figure, alt_text


def intervals(panels: Mapping[str, Any], alt_text: str, *, reference: Any = None, title: str = "") -> Described:
    """Draw means with their intervals: a panel for each score, a row for each model, the same rows in all panels.

    Parameters
    ----------
    panels : mapping of str to mapping of str to (mean, low, high)
        The score and its unit; in it, names from top to bottom. A name that a panel lacks has an empty row there.
    alt_text : str
        What the figure shows.
    reference : float, optional
        Where a dotted line is drawn in every panel.
    title : str
        Over all panels.

    Returns
    -------
    tuple of Figure and str
    """
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    figure, every = _subplots(min(8, 3 + 3 * len(panels)), 1 + len(names) / 3, 1, len(panels), sharey=True, title=title)
    for axes, (label, rows) in zip(every, panels.items(), strict=True):
        mean, low, high = np.array(list(rows.values()), dtype=float).T
        if reference is not None:
            axes.axvline(reference, color="grey", linestyle=":")
        axes.errorbar(mean, list(map(names.index, rows)), xerr=[mean - low, high - mean], fmt="o", capsize=3)
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=5)
    every[0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    return figure, alt_text


def confusion(matrices: Mapping[str, ArrayLike], class_names: Names, *, title: str = "") -> Described:
    """Draw confusion matrices side by side, each cell coloured by its share of the true class.

    The gap: ``sklearn.metrics.ConfusionMatrixDisplay`` draws one, and does not name the two kinds of errors.

    Parameters
    ----------
    matrices : mapping of str to array-like of shape (2, 2)
        Name to counts, as ``sklearn.metrics.confusion_matrix`` returns them: rows true, columns predicted.
    class_names : tuple of str
        Of class 0 and class 1.
    title : str
        Over all matrices.

    Returns
    -------
    tuple of Figure and str

    Raises
    ------
    TypeError, ValueError
        Another shape, or values that are no finite numbers from 0 on.
    """
    figure, every = _subplots(min(7, 0.8 + 2.4 * len(matrices)), 2.8, 1, len(matrices), sharey=True, title=title)
    parts = []
    for axes, (name, given) in zip(every, matrices.items(), strict=True):
        parts.append(f"{name}: {_matrix(axes, decisions.check_real(given, name), class_names)}")
        axes.set_title(name, fontsize=10)
        axes.label_outer()
    return figure, "; ".join(parts) + "."


def _matrix(axes: Any, counts: np.ndarray, names: Names) -> str:
    """Draw a confusion matrix; return its errors in words."""
    if counts.shape != (2, 2) or not ((counts >= 0) & (counts < np.inf)).all():
        raise ValueError(f"a confusion matrix must be 2 × 2, of finite numbers from 0 on; got {counts.tolist()}.")
    # The share of the true class; no cell is too dark for black text.
    axes.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1e-9), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for cell, kind in zip(np.ndindex(2, 2), ("", "\nfalse alarms", "\nmisses", ""), strict=True):
        axes.text(*cell[::-1], f"{counts[cell]:,.9g}{kind}", ha="center", va="center")
    axes.set(xlabel="predicted", ylabel="true", xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names)
    return f"{counts[0, 1]:,.9g} false alarms and {counts[1, 0]:,.9g} misses among {counts.sum():,.9g} rows"


def capacity(y_true: Any, y_prob: Any, k: int, class_names: Names, *, unit: str = "rows", title: str = "") -> Described:
    """Draw what acting on the k rows of highest probability finds, for all k: precision and recall.

    Rows of equal probability are taken in equal parts, as in `helpers.decisions.precision_at_k`.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, 1)
        0 or 1, with at least one 1.
    y_prob : array-like of shape (n,) or (n, 1)
        Probabilities of class 1.
    k : int
        The capacity, from 1 to n; marked on both curves.
    class_names : tuple of str
        Of class 0 and class 1.
    unit : str
        What the rows are, in the plural.
    title : str

    Returns
    -------
    tuple of Figure and str

    Raises
    ------
    TypeError, ValueError
        As in `helpers.decisions.precision_at_k`; no row of class 1.
    """
    (y, p), name = decisions.check_rows(y_true, y_prob), class_names[1]
    if not y.any():
        raise ValueError(f"y_true has no row of class 1, {name}: there is nothing to find.")
    _, level, tied = np.unique(-p, return_inverse=True, return_counts=True)
    found = np.repeat(np.bincount(level, weights=y) / tied, tied).cumsum()
    rows, precision, recall = np.arange(1, len(y) + 1), decisions.precision_at_k(y, p, k), found[k - 1] / y.sum()
    curves = {"precision": found / rows, "recall": found / y.sum(), "precision at random": 0 * rows + y.mean()}
    marks = {f"at {k:,}: precision {precision:.3g}": (k, precision), f"recall {recall:.3g}": (k, recall)}
    right, reached, anyway = (f"{100 * share:.3g} %" for share in (precision, recall, y.mean()))
    told = f"At {k:,} of {len(y):,} {unit}, {right} of those acted on are {name}, and {reached} of the {name} ones"
    told += f" are reached; picked at random, {anyway} would be {name}."
    return lines(rows, curves, f"{unit} acted on", "share", told, title=title, marks=marks)


def reliability(models: Mapping[str, decisions.CalibrationBins], *, title: str = "") -> Described:
    """Draw predicted probability against observed frequency, with the numbers of rows below.

    Parameters
    ----------
    models : mapping of str to CalibrationBins
        The bars are 95 % intervals of the frequency (Clopper and Pearson).
    title : str

    Returns
    -------
    tuple of Figure and str
    """
    figure, (above, below) = _subplots(7, 4.2, 2, 1, sharex=True, height_ratios=(3, 1), title=title)
    above.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="calibrated")
    parts = []
    for (name, bins), marker in zip(models.items(), "os^D" * len(models), strict=False):
        low, high = np.array([binomtest(round(f * n), n).proportion_ci() for _, f, n in zip(*bins, strict=True)]).T
        interval = np.abs([bins.frequency - low, high - bins.frequency])
        above.errorbar(bins.mean_prob, bins.frequency, interval, fmt=marker, capsize=2, alpha=0.85, label=name)
        below.plot(bins.mean_prob, bins.rows, marker=marker, linestyle="none")
        parts.append(f"for {name}, {((bins.mean_prob < low) | (bins.mean_prob > high)).sum()} of {len(low)} bins")
    above.set(ylabel="observed frequency")
    below.set(xlabel="mean predicted probability in the bin", ylabel="rows", ymargin=0.2, ylim=(0, None))
    _legend(figure)
    return figure, f"Predicted probability outside the 95 % interval of the observed frequency: {'; '.join(parts)}."

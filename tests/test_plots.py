"""Figures: what they draw, and the alternative text that is computed with them and shown."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.metrics import confusion_matrix

from helpers import decisions, plots

NAMES = ("on time", "late")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def dots(axes):
    return [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "o"]


def verticals(axes):
    """Places of the lines that go from the bottom to the top."""
    return [line.get_xdata()[0] for line in axes.lines if line.get_transform() == axes.get_xaxis_transform()]


def test_scores_count_the_rows_that_reach_the_threshold():
    _, alt_text = plots.scores([0, 0, 1, 1, 1], [0.1, 0.7, 0.7, 0.9, 0.2], 0.7, ("no", "yes"))
    assert alt_text == "2 of 3 yes rows reach the threshold 0.7, and so do 1 of 2 no rows."


def test_scores_mark_each_of_several_thresholds_and_tell_what_reaches_it():
    thresholds = {"usual": 0.5, "from the costs": 0.25}
    figure, alt_text = plots.scores([0, 0, 1, 1], [0.1, 0.3, 0.4, 0.9], thresholds, NAMES)
    assert alt_text == (
        "1 of 2 late rows reach the threshold 0.5 (usual), and so do 0 of 2 on time rows; "
        "2 of 2 late rows reach the threshold 0.25 (from the costs), and so do 1 of 2 on time rows."
    )
    (axes,) = figure.axes
    assert verticals(axes) == [0.25, 0.5]
    assert texts(axes) == ["from the costs 0.25", "usual 0.5"]
    assert len({line.get_linestyle() for line in axes.lines}) == 2, "each has its own dash"
    assert axes.get_xlabel() == "the model's output for late"
    heights = [max(y for _, y in patch.get_xy()) for patch in axes.patches]
    assert heights == [0.5, 0.5], "each class by its own share"
    assert [text.get_text() for text in figure.legends[0].texts] == list(NAMES)
    figure.draw_without_rendering()
    assert all(label.get_text().endswith("%") for label in axes.get_yticklabels())


def test_columns_are_drawn_as_vectors_and_what_is_masked_is_not_drawn():
    y_true, y_prob = np.array([[0], [1], [1]]), np.array([[0.1], [0.7], [0.2]])
    _, alt_text = plots.scores(y_true, y_prob, 0.5, ("no", "yes"))
    assert alt_text == "1 of 2 yes rows reach the threshold 0.5, and so do 0 of 1 no rows."
    figure, _ = plots.lines([1, 2, 3], {"a": np.ma.masked_equal([[1], [9], [3]], 9)}, "x", "y", "T")
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1, np.nan, 3])
    image = plots.image_strip([np.zeros((4, 5, 1)), np.zeros((4, 5))], ["a", "b"])[0]
    assert [axes.images[0].cmap.name for axes in image.axes] == ["gray", "gray"]
    figure, _ = plots.intervals({str(k): {"a": (1, 0, 2)} for k in range(8)}, "T")
    assert all(axes.lines for axes in figure.axes), "more panels than colours"
    for call, message in (
        (lambda: plots.scores(["0", "1", "1"], y_prob, 0.5), "must be 0 or 1; got '0', '1', dtype <U1"),
        (
            lambda: plots.scores(y_true, y_prob, {"a": 0.5, "b": 1.5}),
            r"threshold must be a number in \[0, 1\]; got 1.5",
        ),
        (lambda: plots.lines([1, 2, 3], {"a": np.zeros((3, 2))}, "x", "y", "T"), "1d array"),
        (lambda: plots.lines([1, 2, 3], {"a": ["1", "2", "3"]}, "x", "y", "T"), "a must hold real numbers"),
        (lambda: plots.bars({"a": "5"}, "x", "T"), "values must hold real numbers"),
        (lambda: plots.confusion({"a": np.zeros((2, 3))}, NAMES), r"must be 2 × 2.*; got \[\[0.0, 0.0, 0.0\], \["),
        (lambda: plots.confusion({"a": [[1, -1], [0, 2]]}, NAMES), "of finite numbers from 0 on; got .*-1.0"),
        (lambda: plots.confusion({"a": [[1, np.nan], [0, 2]]}, NAMES), "of finite numbers from 0 on; got .*nan"),
        (lambda: plots.confusion({"usual": [["1", "2"], ["0", "2"]]}, NAMES), "usual must hold real numbers"),
        (lambda: plots.capacity(y_true, y_prob, 0, NAMES), "k must be a whole number from 1 to the number of rows, 3"),
        (lambda: plots.capacity(y_true, y_prob, 4, NAMES), "k must be a whole number from 1 to the number of rows, 3"),
        (lambda: plots.capacity([0, 0, 0], y_prob, 1, NAMES), "no row of class 1, late"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_a_band_lies_around_its_own_curve_which_ends_where_it_is_not_finite():
    bands = {"b": ([1, 2, 3], [3, 4, 5])}
    figure, _ = plots.lines(
        [25, 100, 1000], {"a": [9, np.inf, 9], "b": [2, 3, 4]}, "n", "y", "T", bands=bands, log_x=True
    )
    axes = figure.axes[0]
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().get_points().tolist() == [[25, 1], [1000, 5]]
    assert band.get_facecolor()[0, :3].tolist() == list(to_rgb(axes.lines[1].get_color()))
    assert np.isnan(axes.lines[0].get_ydata()[1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["25", "100", "1,000"]
    assert not axes.get_xticks(minor=True).size


def test_curves_of_different_models_stand_over_their_own_thresholds():
    series = {"a": ([0.1, 0.9], [4, 5]), "b": ([0.2, 0.4, 0.8], [3, 1, 2]), "c": (7, 8)}
    bands = {"b": ([2, 0, 1], [4, 2, 3])}
    figure, alt_text = plots.lines([0, 1], series, "threshold", "cost, EUR", "T", bands=bands)
    (axes,) = figure.axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn == [[[0.1, 4], [0.9, 5]], [[0.2, 3], [0.4, 1], [0.8, 2]], [[0, 7], [1, 8]]]
    assert axes.collections[0].get_paths()[0].get_extents().get_points().tolist() == [[0.2, 0], [0.8, 4]]
    assert (axes.get_xlabel(), axes.get_ylabel(), alt_text) == ("threshold", "cost, EUR", "T")


def test_curves_are_told_apart_without_colours_too_and_named_below():
    names = [f"curve {k}" for k in range(6)]
    figure, _ = plots.lines([0, 1], {name: [0, 1] for name in names}, "x", "y", "T")
    lines = figure.axes[0].lines
    assert len({(line.get_linestyle(), line._dash_pattern[1] and tuple(line._dash_pattern[1])) for line in lines}) == 6
    assert len({line.get_color() for line in lines}) == 6
    assert [text.get_text() for text in figure.legends[0].texts] == names


@pytest.mark.parametrize("point", [(0, 0), (0, 100), (50, 0), (50, 100), (100, 0), (100, 100), (50, 50)])
def test_a_marked_point_has_a_dot_and_its_label_lies_beside_it_within_the_axes_and_off_the_curve(point):
    curve = np.linspace(0, 100, 30)
    figure, _ = plots.lines(
        curve, {"rising": curve}, "x", "y", "T", marks={"marked here": point}, at={"A": 30, "B": 31}
    )
    (axes,) = figure.axes
    assert dots(axes) == [point]
    figure.draw_without_rendering()
    (label,) = (text for text in axes.texts if text.get_text() == "marked here")
    box = label.get_window_extent()
    place = axes.transData.transform(point)
    assert np.hypot(*(np.mean(box.get_points(), axis=0) - place)) < 80
    assert axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
    assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
    over = axes.transData.transform(np.column_stack([np.linspace(0, 100, 999)] * 2))
    # At its ends a long label would leave the axes, or lie on the curve; the second is better.
    assert point in [(0, 0), (100, 100)] or not any(box.contains(*pixel) for pixel in over)


def test_vertical_lines_are_labelled_above_the_axes_and_no_label_covers_another():
    at = {"from the costs 0.31": 0.31, "usual 0.5": 0.5, "from the capacity 0.3": 0.3}
    figure, _ = plots.lines([0, 1], {"a": [0, 1]}, "x", "y", "T", at=at)
    (axes,) = figure.axes
    assert verticals(axes) == [0.3, 0.31, 0.5]
    assert texts(axes) == ["from the capacity 0.3", "from the costs 0.31", "usual 0.5"]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(box.y0 > axes.bbox.y1 for box in boxes)
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_outlines_lie_on_their_image_and_an_empty_mask_has_none():
    image, mask = np.zeros((20, 30, 1), dtype=np.uint16), np.zeros((20, 30), dtype=bool)
    mask[5:10, 10:20] = True
    masks = {"mask": [mask, mask * 0], "predicted": [mask, mask]}
    figure, alt_text = plots.outlines([image, image + 7], masks, ["first", "second\nIoU 0"])
    assert alt_text == "Images, from left to right, with the outlines of mask and predicted: first; second IoU 0."
    (solid, dashed), second = (list(axes.collections) for axes in figure.axes)
    assert len(second) == 1
    assert solid.get_paths()[0].get_extents().get_points().tolist() == [[9.5, 4.5], [19.5, 9.5]]
    assert solid.get_edgecolor().tolist() != dashed.get_edgecolor().tolist()
    assert solid.get_linestyle() != dashed.get_linestyle(), "told apart without colours too"
    assert [text.get_text() for text in figure.legends[0].texts] == ["mask", "predicted"]
    assert figure.axes[0].get_xlim() == (-0.5, 29.5), "the whole image, and nothing beside it"
    plots.outlines([image], {"mask": [mask[..., None]]}, ["first"])
    for bad, message in (
        (masks, r"as many; got \[1, 2\]"),
        ({"mask": [mask.T]}, r"mask 'mask' of shape \(30, 20\) lies on an image of shape \(20, 30, 1\)"),
        ({name: [mask] for name in "abc"}, "3 kinds"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.outlines([image], bad, ["first"])
    with pytest.raises(ValueError, match="1 images and 2 titles"):
        plots.image_strip([mask], ["a", "b"])


def test_each_object_has_a_colour_of_its_own_over_a_stretched_image_and_what_is_not_known_has_none():
    image, labels = np.tile(np.arange(900, 1000)[:, np.newaxis], (100, 1, 1)), np.zeros((100, 100), int)
    labels[10:20, 10:20], labels[10:20, 20:30], labels[10:20, 30:40] = 1, 7, -1
    painted = plots.coloured(image, labels)
    assert painted.shape == (100, 100, 3) and painted.min() == 0 and painted.max() <= 1
    assert np.ptp(painted, axis=-1)[labels <= 0].max() == 0, "grey where no object is"
    # The same row of grey values under both, so that a difference is the colour's.
    assert np.abs(painted[15, 12] - painted[15, 22]).max() > 0.2
    assert np.ptp(plots.coloured(np.full_like(image, 7), 0 * labels)) == 0, "a constant image"
    assert plots.image_strip([painted], ["objects"], "two cells")[1] == "two cells"
    assert plots.image_strip([painted], ["objects"])[1] == "Images, from left to right: objects."


def test_confusion_matrices_name_the_classes_and_the_two_kinds_of_errors():
    y_true, y_prob = [0, 0, 0, 1, 1], np.array([0.1, 0.4, 0.6, 0.4, 0.9])
    matrices = {f"threshold {t}": confusion_matrix(y_true, y_prob >= t) for t in (0.5, 0.3)}
    figure, alt_text = plots.confusion(matrices, NAMES, title="Fewer misses, more false alarms")
    assert alt_text == (
        "threshold 0.5: 1 false alarms and 1 misses among 5 rows; "
        "threshold 0.3: 2 false alarms and 0 misses among 5 rows."
    )
    assert [axes.get_title() for axes in figure.axes] == list(matrices)
    for axes, matrix in zip(figure.axes, matrices.values(), strict=True):
        # Column and row of each cell, rows from top to bottom.
        cells = {text.get_position(): text.get_text() for text in axes.texts}
        assert cells == {
            (0, 0): f"{matrix[0, 0]}",
            (1, 0): f"{matrix[0, 1]}\nfalse alarms",
            (0, 1): f"{matrix[1, 0]}\nmisses",
            (1, 1): f"{matrix[1, 1]}",
        }
        assert axes.get_ylim() == (1.5, -0.5)
        np.testing.assert_allclose(axes.images[0].get_array(), matrix / [[3], [2]], err_msg="share of the true class")
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == list(NAMES)
    assert [axes.get_xlabel() for axes in figure.axes] == ["predicted", "predicted"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["true", ""]
    _, alt_text = plots.confusion({"all": [[1_200_000, 5_000], [0, 0]]}, NAMES)
    assert alt_text == "all: 5,000 false alarms and 0 misses among 1,205,000 rows.", "a class without rows"


def contrast(colour, ground=(1, 1, 1)):
    """Of two colours, as the Web Content Accessibility Guidelines define it."""
    linear = np.array(
        [[c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(v)] for v in (colour, ground)]
    )
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return high / low


def test_counts_are_legible_on_the_darkest_cell_and_curves_on_white():
    figure, _ = plots.confusion({"all right": [[9, 0], [0, 9]]}, NAMES)
    (axes,) = figure.axes
    (image,) = axes.images
    darkest = image.cmap(image.norm(1.0))[:3]
    assert min(contrast(text.get_color(), darkest) for text in axes.texts) > 4.5
    assert min(map(contrast, plots.COLOURS[:5])) > 2.9
    assert figure.get_facecolor() == (1, 1, 1, 1)


def test_the_bins_outside_their_interval_are_told():
    y_true, y_prob = np.repeat([0, 1], 50), np.repeat([0.05, 0.6], 50)
    figure, alt_text = plots.reliability({"a": decisions.calibration_bins(y_true, y_prob, 2)})
    assert alt_text.endswith("interval of the observed frequency: for a, 1 of 2 bins.")
    # Clopper and Pearson: with none of 50, the upper limit is 1 - 0.025 ** (1 / 50).
    (bars,) = figure.axes[0].collections
    limit = 0.025 ** (1 / 50)
    np.testing.assert_allclose(
        bars.get_segments(), [[[0.05, 0], [0.05, 1 - limit]], [[0.6, limit], [0.6, 1]]], atol=1e-9
    )
    assert [text.get_text() for text in figure.legends[0].texts] == ["calibrated", "a"]


def test_a_capacity_is_marked_on_precision_and_recall():
    y_true, y_prob = [1, 0, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    figure, alt_text = plots.capacity(y_true, y_prob, 4, NAMES, unit="flights")
    assert alt_text == (
        "At 4 of 8 flights, 75 % of those acted on are late, and 100 % of the late ones are reached; "
        "picked at random, 37.5 % would be late."
    )
    (axes,) = figure.axes
    precision, recall, at_random = (line.get_ydata() for line in axes.lines[:3])
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5, 3 / 6, 3 / 7, 3 / 8])
    np.testing.assert_allclose(recall, np.array([1, 1, 2, 3, 3, 3, 3, 3]) / 3)
    assert set(at_random) == {3 / 8} and axes.lines[2].get_linestyle() == ":"
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert dots(axes) == [(4, 0.75), (4, 1)] and verticals(axes) == []
    assert texts(axes) == ["at 4: precision 0.75", "recall 1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("flights acted on", "share")


def test_rows_of_equal_probability_are_taken_in_equal_parts():
    y_true, y_prob = np.array([0, 1, 0, 1, 1, 0]), np.array([[0.5], [0.5], [0.5], [0.9], [0.1], [0.1]])
    figure, _ = plots.capacity(y_true, y_prob, 2, NAMES)
    expected = [decisions.precision_at_k(y_true, y_prob, k) for k in range(1, 7)]
    assert len(set(expected)) > 3
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), expected)


def test_a_title_stands_over_all_panels_and_is_broken_where_it_is_long():
    bins = {"a": decisions.calibration_bins([0, 1], [0.2, 0.7])}
    long = (
        "Which of the two thresholds is the cheaper one, and what does it cost in a year of one hundred flights a day?"
    )
    for call in (
        lambda title: plots.lines([1, 2], {"a": [1, 2]}, "x", "y", "T", title=title),
        lambda title: plots.bars({"a": 1}, "x", "T", title=title),
        lambda title: plots.intervals({"a": {"b": (1, 0, 2)}, "c": {"b": (1, 0, 2)}}, "T", title=title),
        lambda title: plots.scores([0, 1], [0.2, 0.7], 0.5, title=title),
        lambda title: plots.confusion({"a": np.eye(2), "b": np.eye(2)}, NAMES, title=title),
        lambda title: plots.capacity([0, 1], [0.2, 0.7], 1, NAMES, title=title),
        lambda title: plots.reliability(bins, title=title),
    ):
        figure, alt_text = call(long)
        assert figure.get_suptitle().replace("\n", " ") == long and "\n" in figure.get_suptitle()
        figure.draw_without_rendering()
        title, *panels = (artist.get_tightbbox() for artist in (figure._suptitle, *figure.axes))
        assert title.x1 <= figure.bbox.x1, "not cut off"
        assert all(panel.y1 <= title.y0 + 1 for panel in panels), "not over a panel"
        without, same = call("")
        assert without.get_suptitle() == "" and same == alt_text


def test_what_is_shown_carries_its_text_once_and_prints_it(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, raw: shown.append(data))
    alt_text = 'out-of-fold "log-odds" < 0 & ' * 9 + "the rest."
    figure, text = plots.bars({"worst": 1234, "none": 0}, "flips", alt_text)
    assert [label.get_text() for label in figure.axes[0].texts] == ["1,234", "0"]
    assert figure.axes[0].yaxis_inverted(), "from top to bottom"
    plots.show((figure, text))
    assert " ".join(capsys.readouterr().out.split()) == alt_text
    (data,) = shown
    assert set(data) == {"text/html", "text/plain"}, "the picture is stored once"
    assert data["text/plain"] == alt_text
    escaped = alt_text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    assert re.fullmatch(r'<img alt="([^"]+)" src="data:image/png;base64,iVBOR[^"]+">', data["text/html"])[1] == escaped

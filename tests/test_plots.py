"""Figures: what they draw, and the alternative text that is computed with them and shown."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from helpers import decisions, plots


def test_scores_count_the_rows_that_reach_the_threshold():
    _, alt_text = plots.scores([0, 0, 1, 1, 1], [0.1, 0.7, 0.7, 0.9, 0.2], 0.7, ("no", "yes"))
    assert alt_text == "2 of 3 yes rows reach the threshold 0.7, and so do 1 of 2 no rows."


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
    curve = decisions.threshold_curve([0, 1], [0.2, 0.7])
    for call, message in (
        (lambda: plots.scores(["0", "1", "1"], y_prob, 0.5), "must be 0 or 1; got '0', '1', dtype <U1"),
        (lambda: plots.lines([1, 2, 3], {"a": np.zeros((3, 2))}, "x", "y", "T"), "1d array"),
        (lambda: plots.lines([1, 2, 3], {"a": ["1", "2", "3"]}, "x", "y", "T"), "a must hold real numbers"),
        (lambda: plots.bars({"a": "5"}, "x", "T"), "values must hold real numbers"),
        (lambda: plots.threshold_trade(curve, np.nan, 1, 1), "threshold must be a number in"),
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


def test_the_bins_outside_their_interval_and_the_cost_at_the_threshold_are_told():
    y_true, y_prob = np.repeat([0, 1], 50), np.repeat([0.05, 0.6], 50)
    _, alt_text = plots.reliability({"a": decisions.calibration_bins(y_true, y_prob, 2)})
    assert alt_text.endswith("interval of the observed frequency: for a, 1 of 2 bins.")
    curve = decisions.threshold_curve([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    figure, alt_text = plots.threshold_trade(curve, 0.5, 1, 5)
    assert alt_text.startswith("At threshold 0.5 a row costs 1.500: 1 false alarms and 1 misses among 4 rows")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "1", "1"]


def test_what_is_shown_carries_its_text_once_and_prints_it(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, raw: shown.append(data))
    alt_text = 'out-of-fold "log-odds" < 0 & ' * 9 + "the rest."
    figure, text = plots.bars({"worst": 1234, "none": 0}, "flips", alt_text)
    assert [label.get_text() for label in figure.axes[0].texts] == ["1,234", "0"]
    plots.show((figure, text))
    assert " ".join(capsys.readouterr().out.split()) == alt_text
    (data,) = shown
    assert set(data) == {"text/html", "text/plain"}, "the picture is stored once"
    assert data["text/plain"] == alt_text
    escaped = alt_text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    assert re.fullmatch(r'<img alt="([^"]+)" src="data:image/png;base64,iVBOR[^"]+">', data["text/html"])[1] == escaped

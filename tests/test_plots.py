"""Figures: their sentences are computed, and what is shown carries them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from helpers import plots


def test_the_sentence_of_scores_counts():
    figure, sentence = plots.scores([0, 0, 1, 1, 1], [0.1, 0.7, 0.7, 0.9, 0.2], 0.7, ("no", "yes"))
    assert sentence == "2 of 3 yes rows reach the threshold 0.7, and so do 1 of 2 no rows."
    assert figure.axes[0].get_xlabel() == "probability of yes"


def test_a_strip_needs_a_title_for_each_image():
    figure, sentence = plots.image_strip([np.zeros((4, 4)), np.zeros((4, 4, 3))], ["a\nb", "c"])
    assert sentence == "Images, from left to right: a b; c."
    assert len(figure.axes) == 2
    with pytest.raises(ValueError, match="1 images and 2 titles"):
        plots.image_strip([np.zeros((4, 4))], ["a", "b"])


def test_lines_break_where_values_are_not_finite():
    figure, _ = plots.lines([0, 1, 2], {"a": [0, np.inf, 2]}, "x", "y", "A line.")
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])


def test_a_band_lies_around_its_own_curve_and_a_logarithmic_axis_names_each_x():
    bands = {"b": ([1, 2, 3], [3, 4, 5])}
    figure, _ = plots.lines(
        [25, 100, 1000], {"a": [9, 9, 9], "b": [2, 3, 4]}, "rows", "y", "Two.", bands=bands, log_x=True
    )
    axes = figure.axes[0]
    (band,) = axes.collections
    (left, low), (right, high) = band.get_paths()[0].get_extents().get_points()
    assert (left, right, low, high) == (25, 1000, 1, 5)
    assert band.get_facecolor()[0, :3].tolist() == list(to_rgb(axes.lines[1].get_color()))
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["25", "100", "1,000"]


def test_intervals_keep_one_row_for_each_name_in_all_panels():
    panels = {"AP": {"none": (0.5, 0.4, 0.8), "SMOTE": (0.3, 0.2, 0.4)}, "cost": {"SMOTE": (7, 6, 9)}}
    figure, sentence = plots.intervals(panels, "Two scores.", reference=0)
    assert sentence == "Two scores."
    first, second = figure.axes
    assert [axes.get_xlabel() for axes in (first, second)] == ["AP", "cost"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["none", "SMOTE"]
    assert first.yaxis_inverted(), "the first is on top"
    (points, _, (bars,)) = second.containers[0]
    assert points.get_xydata().tolist() == [[7, 1]]
    assert [segment.tolist() for segment in bars.get_segments()] == [[[6, 1], [9, 1]]]
    dotted = [line for line in second.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [0]


def test_bars_stand_in_the_given_order_with_their_values():
    figure, sentence = plots.bars({"worst": 1234, "none": 0}, "flips", "Two bars.")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worst", "none"]
    assert [text.get_text() for text in axes.texts] == ["1,234", "0"]
    assert axes.yaxis_inverted(), "the first is on top"
    assert sentence == "Two bars."


def test_what_is_shown_carries_its_sentence(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plots, "display", shown.append)
    plots.show(plots.road())
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("The road: raw input")
    png, metadata = shown[0]._repr_png_()
    assert png
    assert metadata["alt"] == printed


def test_a_printed_sentence_keeps_its_words_whole(monkeypatch, capsys):
    monkeypatch.setattr(plots, "display", lambda image: None)
    sentence = "out-of-fold log-odds and " * 12 + "the rest."
    plots.show((plots.road()[0], sentence))
    assert " ".join(capsys.readouterr().out.split()) == sentence


def test_outlines_lie_on_their_image():
    image = np.zeros((20, 30, 1), dtype=np.uint16)
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:10, 10:20] = True
    masks = {"mask": [mask, ~mask & False], "predicted": [mask, mask]}
    figure, sentence = plots.outlines([image, image + 7], masks, ["first", "second\nIoU 0"])
    assert sentence == "Images, from left to right, with the outlines of mask and predicted: first; second IoU 0."
    first, second = (axes.collections for axes in figure.axes)
    assert (len(first), len(second)) == (2, 1), "an empty mask has no outline"
    (left, top), (right, bottom) = first[0].get_paths()[0].get_extents().get_points()
    assert (left, right, top, bottom) == (9.5, 19.5, 4.5, 9.5)
    assert first[0].get_edgecolor().tolist() != first[1].get_edgecolor().tolist()
    assert first[0].get_linestyle() != first[1].get_linestyle(), "told apart without colours too"
    with pytest.raises(ValueError, match=r"as many; got \[1, 2\]"):
        plots.outlines([image], masks, ["first"])


def test_a_figure_is_as_tall_as_its_images_within_limits():
    def height(rows, columns):
        blank = np.zeros((rows, columns))
        return plots.outlines([blank[..., np.newaxis]], {"mask": [blank]}, ["blank"])[0].get_figheight()

    assert height(10, 20) < height(20, 20) < height(40, 20)
    assert height(400, 20) == height(40, 20), "a narrow strip is no pillar"

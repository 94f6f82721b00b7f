"""The pictures, tested by their matplotlib artists."""

import dataclasses
import itertools
from datetime import datetime, timezone

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from runkit import describe_run
from runkit.figure_text import add_caption
from shapebias.answers.observers import pool_people
from shapebias.figures.accuracy import draw_accuracy
from shapebias.figures.caption import caption_answers
from shapebias.figures.shape_bias import (
    draw_column,
    draw_comparison,
    draw_forest,
    plot_shape_bias_bars,
    plot_shape_bias_matrix,
)
from shapebias.measures.shape_bias import Estimate, measure
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import EXPERIMENTS


@pytest.fixture
def observers(make_observer):
    """A network and two persons: for category k, k of 16 (network) or 15 + k of 31 (people) decisions are by shape."""

    def answers(out_of: int, offset: int) -> dict[str, str]:
        answers = {}
        for rank, shape in enumerate(CATEGORIES):
            texture = CATEGORIES[(rank + 1) % 16]
            for number in range(out_of):
                answers[f"{shape}{number}-{texture}1.png"] = shape if number < rank + offset else texture
        return answers

    network = make_observer(answers(16, 0), name="net")
    persons = [make_observer(answers(31, 15), name=f"subject-0{i}", kind="person") for i in (1, 2)]
    return network, persons


@pytest.fixture
def series(observers):
    network, persons = observers
    return [measure(network), measure(pool_people(persons))]


def points(ax: Axes) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in ax.lines if is_points(line)}


def is_points(line: Line2D) -> bool:
    return str(line.get_gid()).endswith("-points")


def averages(ax: Axes) -> dict[str, float]:
    lines = [line for line in ax.lines if str(line.get_gid()).endswith("-average")]
    return {line.get_gid().removeprefix("observer-").removesuffix("-average"): line.get_xdata()[0] for line in lines}


def test_points_are_texture_fractions_of_the_category_beside_them(series):
    ax = plot_shape_bias_matrix(series)
    names = [label.get_text() for label in ax.get_yticklabels()]
    drawn = points(ax)["net"]
    assert len(drawn) == 16
    for x, y in drawn:
        assert x == pytest.approx(1 - CATEGORIES.index(names[round(y)]) / 16)


def test_lines_stand_at_the_overall_values(series):
    lines = averages(plot_shape_bias_matrix(series))
    assert lines["0"] == pytest.approx(1 - 7.5 / 16)
    assert lines["people"] == pytest.approx(1 - 22.5 / 31)


def test_people_order_the_categories_the_most_shape_at_the_bottom(series):
    names = [label.get_text() for label in plot_shape_bias_matrix(series).get_yticklabels()]
    assert names == list(CATEGORIES[::-1])


def test_without_people_the_observers_order_the_categories(series, observers):
    flipped = measure(observers[0])
    names = [label.get_text() for label in plot_shape_bias_matrix([flipped]).get_yticklabels()]
    assert names == list(CATEGORIES[::-1])


def test_categories_that_no_observer_saw_have_no_row(make_observer):
    """As for a head that covers only some of them."""
    answers = {"cat1-dog1.png": "cat", "dog1-bear1.png": "bear", "bear1-cat1.png": "bear"}
    measured = measure(make_observer(answers, name="net"))
    ax = plot_shape_bias_matrix([measured])
    assert {text.get_text() for text in ax.get_yticklabels()} == {"cat", "dog", "bear"}
    assert ax.get_ylim() == (-0.5, 2.5)
    left, _ = draw_accuracy([measured]).axes[:2]
    assert {text.get_text() for text in left.get_yticklabels()} == {"cat", "dog", "bear"}


def test_axes_are_double_and_run_against_each_other(series):
    ax = plot_shape_bias_matrix(series)
    assert ax.get_xlim() == (0, 1)
    assert "texture" in ax.get_xlabel()
    (top,) = ax.child_axes
    assert "shape" in top.get_xlabel()
    ax.figure.draw_without_rendering()
    right, left = (axes.transData.transform((x, 0))[0] for axes, x in ((top, 0.2), (ax, 0.8)))
    assert right == pytest.approx(left)  # 0.2 by shape stands over 0.8 by texture


def test_people_are_red_diamonds_on_top(series):
    ax = plot_shape_bias_matrix(series)
    network, people = sorted(filter(is_points, ax.lines), key=lambda line: str(line.get_label()))
    red, green, blue = to_rgb(people.get_markerfacecolor())
    assert red > 2 * max(green, blue)
    assert people.get_zorder() > network.get_zorder()


def test_random_weights_are_hollow_and_labelled(series):
    random = dataclasses.replace(series[0], random=True, label="net, RANDOM WEIGHTS (seed 0)")
    ax = plot_shape_bias_matrix([random, series[1]])
    drawn = next(line for line in ax.lines if "RANDOM WEIGHTS" in str(line.get_label()))
    assert to_hex(drawn.get_markerfacecolor()) == "#ffffff"
    bars = plot_shape_bias_bars([random, series[1]])
    text = next(text for text in bars.texts if "RANDOM WEIGHTS" in text.get_text())
    assert text.get_fontweight() == "bold"
    legend = draw_column([random, series[1]]).legends[0]
    assert any("RANDOM WEIGHTS" in text.get_text() for text in legend.get_texts())


def test_a_category_where_neither_cue_was_named_has_no_point(make_observer):
    observer = make_observer({"cat1-dog1.png": "knife", "dog1-cat1.png": "dog"})
    ax = plot_shape_bias_matrix([measure(observer)])
    assert [x for x, _ in points(ax)["net"]] == [0.0]


def test_bars_show_values_people_first(series, observers):
    persons = [measure(person) for person in observers[1]]
    ax = plot_shape_bias_bars(series, persons=persons)
    bars = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_height() == pytest.approx(0.34)]
    assert [bar.get_width() for bar in bars] == [pytest.approx(22.5 / 31), pytest.approx(7.5 / 16)]
    assert [text.get_text() for text in ax.texts] == ["people (n = 2)", "0.73", "net", "0.47"]
    assert ax.get_xlim() == (0, 1)


def test_random_weights_come_last(series):
    random = dataclasses.replace(
        series[0], name="random", label="random", random=True, shape_bias=Estimate(0.9, 0.8, 1)
    )
    names = [text.get_text() for text in plot_shape_bias_bars([random, *series]).texts]
    assert names[::2] == ["people (n = 2)", "net", "random"]


def test_an_undefined_shape_bias_is_written_out(make_observer):
    undefined = measure(make_observer({"cat1-dog1.png": "knife"}))
    ax = plot_shape_bias_bars([undefined])
    assert "not defined" in ax.texts[1].get_text()
    assert averages(plot_shape_bias_matrix([undefined])) == {}


def test_many_observers_differ_in_colour_or_marker(series):
    many = [dataclasses.replace(series[0], name=f"net{i}", label=f"net{i}") for i in range(42)]
    handles = draw_column(many).legends[0].legend_handles
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 42


def test_names_fit_on_the_page(series):
    long = dataclasses.replace(series[0], label="swin_base_patch4_window7_224.ms_in22k_ft_in1k")
    for figure in (draw_comparison([long, series[1]]), draw_column([long, series[1]])):
        figure.draw_without_rendering()
        texts = [text for ax in figure.axes for text in ax.texts]
        texts += [text for legend in figure.legends for text in legend.get_texts()]
        width = figure.get_size_inches()[0] * figure.dpi
        boxes = [text.get_window_extent() for text in texts if long.label in text.get_text()]
        assert boxes
        assert all(box.x0 >= 0 and box.x1 <= width for box in boxes)


def test_long_labels_are_broken_between_words(series):
    words = "net.py:build, classes of pets.txt: 5 of 16 categories, not comparable"
    long = dataclasses.replace(series[0], label=words)
    for draw in (draw_comparison, draw_column, draw_forest):
        figure = draw([long, series[1]])
        figure.draw_without_rendering()
        texts = [text for ax in figure.axes for text in (*ax.texts, *ax.get_yticklabels())]
        texts += [text for legend in figure.legends for text in legend.get_texts()]
        width = figure.get_size_inches()[0] * figure.dpi
        boxes = [text.get_window_extent() for text in texts if text.get_text().startswith("net.py:build, classes of")]
        assert boxes
        assert all(box.x0 >= 0 and box.x1 <= width for box in boxes), draw.__name__


def test_forest_shows_each_value_and_interval_people_first(series, observers):
    persons = [measure(person) for person in observers[1]]
    figure = draw_forest(series, persons=persons)
    bias, _, _, coverage = figure.axes
    assert [text.get_text() for text in bias.get_yticklabels()] == ["people (n = 2)", "net"]
    assert bias.get_ylim() == (1.5, -0.5)  # the first row at the top
    drawn = {line.get_gid(): line for line in bias.lines}["observer-0-shape_bias"]
    assert (list(drawn.get_xdata()), list(drawn.get_ydata())) == ([series[0].shape_bias.value], [1])
    (interval,) = next(c for c in bias.collections if c.get_gid() == "observer-0-shape_bias-intervals").get_segments()
    assert interval.tolist() == [[series[0].shape_bias.low, 1], [series[0].shape_bias.high, 1]]
    assert [list(line.get_xdata()) for line in coverage.lines if line.get_marker() == "|"] == [[1.0, 1.0]]
    hollow = draw_forest([dataclasses.replace(series[0], random=True)]).axes[0]
    assert to_hex(hollow.lines[-1].get_markerfacecolor()) == "#ffffff"
    assert hollow.get_yticklabels()[0].get_fontweight() == "bold"


def test_people_have_their_interval_beside_the_marker_and_their_persons_below(series, observers):
    persons = [measure(person) for person in observers[1]]
    bars = plot_shape_bias_bars(series, persons=persons)
    lines = {line.get_gid(): line for line in bars.lines}
    assert lines["observer-people-line"].get_markersize() > lines["observer-people-end"].get_markersize()
    (row,) = set(lines["observer-people-line"].get_ydata())
    assert all(y > row for y in lines["observer-people-persons-shape_bias"].get_ydata())
    bias = draw_forest(series, persons=persons).axes[0]
    caps = next(c for c in bias.collections if c.get_gid() == "observer-people-shape_bias-caps").get_segments()
    assert sorted({x for cap in caps for x in cap[:, 0]}) == [series[1].shape_bias.low, series[1].shape_bias.high]


def test_the_key_names_what_is_drawn(series, observers):
    persons = [measure(person) for person in observers[1]]

    def named(figure):
        (key,) = (ax for ax in figure.axes if ax.get_label() == "key")
        return [text.get_text() for text in key.get_legend().get_texts()]

    assert named(draw_comparison(series[:1])) == ["95% interval"]
    assert named(draw_comparison(series)) == ["95% interval", "people together"]
    assert named(draw_comparison(series, persons=persons))[2:] == ["one person", "range of persons"]


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_right_side_of_a_comparison_is_filled_and_nothing_overlaps(series, count):
    more = [dataclasses.replace(series[0], name=f"net{i}", label=f"net{i}") for i in range(count)]
    figure = draw_comparison(more)
    figure.draw_without_rendering()
    matrix, *right = figure.axes
    boxes = [ax.get_tightbbox() if ax.axison else ax.get_legend().get_window_extent() for ax in right]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    if count <= 2:
        assert boxes[-1].y0 == pytest.approx(matrix.get_tightbbox().y0, abs=0.1 * figure.dpi)
        drawn = {line.get_gid(): line.get_xdata()[0] for line in right[-1].lines}
        assert drawn["observer-0-hidden-coverage"] == series[0].coverage.value


@pytest.mark.parametrize("draw", [draw_comparison, draw_forest])
def test_no_words_of_a_column_overlap(series, draw):
    long = dataclasses.replace(series[0], name="long", label="swin_base_patch4_window7_224.ms_in22k_ft_in1k")
    figure = draw([*series, long], width_in=3.4)
    figure.draw_without_rendering()
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    shown = [
        t
        for axis in axes
        for t in axis.get_major_ticks()
        if t.get_loc() == np.clip(t.get_loc(), *sorted(axis.get_view_interval()))
    ]
    texts = [*(axis.label for axis in axes), *(tick.label1 for tick in shown)]
    boxes = [t.get_window_extent() for t in texts if t.get_visible() and t.get_text()]
    for one, other in itertools.combinations(boxes, 2):
        across, down = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 1 or down <= 1
    assert all(box.x0 >= -1 and box.x1 <= figure.bbox.width + 1 for box in boxes)


def test_figures_have_the_widths_of_a_page_and_a_column(series):
    assert draw_comparison(series).get_size_inches()[0] == 7.0
    assert draw_column(series).get_size_inches()[0] == 3.4


def test_a_caption_names_what_its_picture_shows_and_nothing_else(series):
    head = describe_run(program="shapebias.run", arguments=[], started=datetime.now(timezone.utc), seconds=0.0)

    def words(picture, experiment="cue-conflict", observers=series, persons=2):
        return caption_answers(observers, EXPERIMENTS[experiment], head, persons=persons, picture=picture)

    page, column, forest = words(""), words("-column"), words("-forest")
    assert ["95% intervals" in one for one in (page, column, forest)] == [True, False, True]
    assert ["Each small tick" in one for one in (page, column, forest)] == [True, False, True]
    assert ["Vertical lines" in one for one in (page, column, forest)] == [
        True,
        True,
        False,
    ]
    assert ["Dashed line: people" in one for one in (page, column, forest)] == [False, False, True]
    assert "coverage is a share of the trials whose shape and texture are of different" in page
    assert "coverage" not in words("", observers=[*series, *series])  # four observers leave no room for it
    assert "Each small tick" not in words("", persons=0)
    assert "Dashed line" not in words("-forest", observers=series[:1], persons=0)
    assert "Dotted line: chance." in words("", "sketch")
    assert "Vertical" not in words("", "sketch")


def test_the_legend_of_a_column_says_what_its_numbers_are(series):
    (legend,) = draw_column(series).legends
    assert legend.get_title().get_text() == "number and vertical line: shape bias over all images"
    assert legend.get_texts()[0].get_text().endswith("0.73")


def test_each_share_below_the_bars_says_of_which_trials_it_is(series):
    *_, hidden = draw_comparison(series).axes
    assert [text.get_text() for text in hidden.texts] == [
        "shape accuracy: share of all trials",
        "texture accuracy: share of all trials",
        "coverage: share of cue-conflict trials",
    ]
    assert hidden.get_xlabel() == "share of trials (95% interval)"


@pytest.mark.parametrize("draw", [draw_comparison, draw_column, draw_forest])
def test_a_caption_says_what_was_measured_and_covers_nothing(series, draw):
    head = describe_run(program="shapebias.run", arguments=[], started=datetime.now(timezone.utc), seconds=0.0)
    experiment = EXPERIMENTS["cue-conflict"]
    words = caption_answers(series, experiment, head, persons=2, weights={"net": "weights net.in1k"})
    assert "256 images, 1 network and 2 people." in words
    assert "Weights: net.in1k." in words
    assert f"replknet-analysis {head['versions']['replknet-analysis']}" in words
    assert "Recorded answers of net." in caption_answers(series, experiment, head)
    bare, figure = draw(series), draw(series)
    assert add_caption(figure, "") is figure
    assert figure.get_size_inches().tolist() == bare.get_size_inches().tolist()
    add_caption(figure, words)
    for one in (bare, figure):
        one.draw_without_rendering()
    heights = [[ax.get_window_extent().height / one.dpi for ax in one.axes] for one in (bare, figure)]
    assert heights[0] == pytest.approx(heights[1], abs=0.01)
    *_, caption = figure.texts
    top = caption.get_window_extent().y1
    assert caption.get_window_extent().y0 > 0
    assert all(ax.get_tightbbox().y0 > top for ax in figure.axes)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.y0 >= top
        assert all(ax.get_tightbbox().y0 >= box.y1 for ax in figure.axes)

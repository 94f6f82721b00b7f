"""Pictures of reliance: empty panels state the reason, and no text leaves the figure."""

import dataclasses
from datetime import datetime, timezone

import numpy as np
import pytest

from runkit import describe_run
from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH
from shapebias.figures.caption import caption_reliance, caption_suppressed
from shapebias.figures.reliance import UNDEFINED, draw_control, draw_reliance, draw_reliance_curves, draw_suppressions
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.reliance import Reliance, ReliancePoint
from shapebias.measures.suppression_control import CONTROLS, ControlPoint
from shapebias.stimuli.suppressions import choose_variants


def network(name, *, trained=True):
    """A network that loses a tenth with each strength, or an untrained one at chance level."""

    def point(variant, value):
        suppression, strength = variant.suppression, variant.strength
        estimate = Estimate(value, value - 0.1, value + 0.1)
        return ReliancePoint(
            variant=variant.label,
            suppression=suppression.name if suppression else "",
            cues="+".join(suppression.cues) if suppression else "",
            strength=strength.value if strength else None,
            accuracy=estimate,
            relative_accuracy=estimate if trained else None,
            changed=estimate,
        )

    points = [point(variant, 1 - 0.01 * i) for i, variant in enumerate(choose_variants(["all"]))]
    reliance = {cue: Estimate(0.3, 0.2, 0.4) for cue in ("shape", "texture", "colour")} if trained else {}
    label = f"{name}.imagenette" if trained else f"{name}, RANDOM WEIGHTS (seed 0)"
    areas = {one.suppression: Estimate(0.7, 0.6, 0.8) for one in points if one.suppression} if trained else {}
    return Reliance(name, label, 0.1, 100, tuple(points), areas, reliance)


def words_of(ax):
    return [" ".join(text.get_text().split()) for text in ax.texts]


def panels_of(figure):
    return [ax for ax in figure.axes if ax.get_title()]


@pytest.mark.parametrize("width", [COLUMN_WIDTH, PAGE_WIDTH])
@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, False)])
def test_undefined_curves_say_so_and_no_words_leave_the_figure(width, trained):
    networks = [network(f"replknet{i}n", trained=one) for i, one in enumerate(trained)]
    figure = draw_reliance_curves(networks, width_in=width)
    figure.draw_without_rendering()
    for ax in panels_of(figure):
        assert words_of(ax) == ([UNDEFINED] if not any(trained) else [])
        for text in (ax.title, *ax.texts):
            box = text.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.width
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert [name.endswith(": no better than chance") for name in names] == [not one for one in trained] + [False]
    assert names[-1] == "first point (–): the image as it is"  # what the dash of the axes stands for
    assert legend.legend_handles[-1].get_marker() == "None"  # a dash here looks like a line
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_bars_without_any_reliance_say_why():
    assert words_of(draw_reliance([network("a", trained=False)]).axes[0]) == [UNDEFINED]
    assert words_of(draw_reliance([network("a"), network("b", trained=False)]).axes[0]) == []


def test_captions_say_what_bands_lines_and_the_first_point_are():
    head = describe_run(program="shapebias.reliance", arguments=[], started=datetime.now(timezone.utc), seconds=0.0)
    one, weights = network("a"), {"a": "weights a.imagenette"}
    bars, curves = caption_reliance([one], head, weights), caption_reliance([one], head, weights, curves=True)
    assert "Lines on the bars: 95% intervals" in bars
    assert "Bands: 95% intervals" in curves
    assert "The first point of each curve (–) is the image as it is. Dotted line: 0, where the accuracy is at" in curves
    assert "Dotted" not in bars
    bare = caption_reliance([network("a", trained=False)], head, weights, curves=True)
    assert "Bands" not in bare
    unlabelled = caption_reliance([dataclasses.replace(one, chance=None)], head, weights, curves=True)
    assert "where no answer is unchanged" in unlabelled
    assert "first picture of each row (–) is the image as it is" in caption_suppressed(1, head)
    control = caption_suppressed(20, head, control=True)
    assert "Means over 20 images" in control
    assert "1 in every measure (dotted line). Edges in place: a correlation" in control


def test_the_only_strength_of_a_suppression_is_named_alike_in_all_pictures():
    image = np.zeros((8, 8, 3), np.uint8)
    variants = {variant.label: image for variant in choose_variants(["all"])}
    for width in (COLUMN_WIDTH, PAGE_WIDTH):
        figure = draw_suppressions(variants, width_in=width)
        row = next(ax for ax in figure.axes if any(words == "channel-shuffle" for words in words_of(ax)))
        after = figure.axes[figure.axes.index(row) + 1]
        assert (row.get_title(), after.get_title()) == ("–", "yes")
    values = dict.fromkeys(CONTROLS, Estimate(2.5, 2.4, 2.6))
    points = [
        ControlPoint(v.label, v.suppression.name if v.suppression else "", "", v.strength and v.strength.value, values)
        for v in choose_variants(["all"])
    ]
    assert draw_control(points).axes[0].get_ylabel() == "relative to the\nimage as it is"


def test_every_panel_has_a_name_for_its_axis():
    panels = {ax.get_title().replace("\n", ""): ax for ax in panels_of(draw_reliance_curves([network("a")]))}
    assert all(ax.get_xlabel() for ax in panels.values())
    shuffled = panels["channel-shuffle"]
    assert [label.get_text() for label in shuffled.get_xticklabels()] == ["–", "yes"]

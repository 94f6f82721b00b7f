"""Pictures of reliance: what is empty says why, and no words leave the figure."""

import pytest

from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH
from shapebias.figures.reliance import UNDEFINED, draw_reliance, draw_reliance_curves
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.reliance import Reliance, ReliancePoint
from shapebias.stimuli.suppressions import choose_variants


def network(name, *, trained=True):
    """A network that loses a tenth with each strength; an untrained one is no better than chance."""

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
    assert names[-1] == "image as it is"  # what the dash of the axes stands for
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_bars_without_any_reliance_say_why():
    assert words_of(draw_reliance([network("a", trained=False)]).axes[0]) == [UNDEFINED]
    assert words_of(draw_reliance([network("a"), network("b", trained=False)]).axes[0]) == []


def test_every_panel_has_a_name_for_its_axis():
    panels = {ax.get_title().replace("\n", ""): ax for ax in panels_of(draw_reliance_curves([network("a")]))}
    assert all(ax.get_xlabel() for ax in panels.values())
    shuffled = panels["channel-shuffle"]
    assert [label.get_text() for label in shuffled.get_xticklabels()] == ["–", "yes"]

"""Figures on the page: matplotlib's SVG with unique ids, the colours of the page, and texts for its marks."""

import re
from xml.etree import ElementTree

import pytest

from runkit.figures import new_figure
from runkit.html.picture import embed_figure


@pytest.fixture
def figure():
    """A figure with two markers, a grey line, a hatched bar, and text that contains markup."""
    with new_figure(3, 2) as figure:
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], "o", color="#e69f00", gid="points")
        ax.axhline(0.5, color="#808080", gid="level")
        ax.bar([0.5], [1], facecolor="white", hatch="//")
        ax.set_title("<script> & co")
    return figure


def embed(figure, says=None, slug="one"):
    return str(embed_figure(figure, slug=slug, label='a "plot"', says=says or {}))


def test_elements_say_what_they_are_told(figure):
    root = ElementTree.fromstring(embed(figure, {"points": ["first", "<second>"], "level": "half"}))
    elements = {element.get("id"): element for element in root.iter()}
    assert [use.findtext("title") for use in elements["one-points"].iter("use")] == ["first", "<second>"]
    assert elements["one-level"].findtext("title") == "half"
    assert [element.tag for element in root.iter() if element.find("title") is not None] == ["use", "use", "g"]
    shapes = list(root.iterfind(".//defs/path"))
    assert shapes
    assert not any(shape.get("style") for shape in shapes)  # the page may highlight a single mark


def test_what_the_figure_does_not_have_is_an_error(figure):
    with pytest.raises(ValueError, match="no element 'bars'"):
        embed(figure, {"bars": "none"})
    with pytest.raises(ValueError, match="zip"):
        embed(figure, {"points": ["only one"]})


def test_ids_and_what_refers_to_them_are_the_figures_own(figure):
    one, two = (embed(figure, slug=slug) for slug in ("one", "two"))
    ids = [re.findall(r'\bid="([^"]+)"', picture) for picture in (one, two)]
    assert len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    referred = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one)
    assert len(referred) > 5
    assert {left or right for left, right in referred} <= set(ids[0])
    assert re.search(r"fill: url\(#one-", one)  # the hatch


def test_colours_are_the_pages(figure):
    picture = embed(figure)
    assert not re.search(r"(?<!oklab, )#[0-9a-f]{6}\b", picture)
    assert "color-mix(in oklab, #e69f00 60%, var(--ink))" in picture
    assert "stroke: color-mix(in oklab, var(--ink) 50%, var(--paper))" in picture
    assert "color-mix(in oklab, var(--ink) 0%, var(--paper))" in picture  # white


def test_it_is_a_plot_with_a_name_and_nothing_of_a_file(figure):
    picture = embed(figure)
    root = ElementTree.fromstring(picture)
    assert root.get("class") == "plot"
    assert root.get("aria-label") == 'a "plot"; arrow keys read the values'
    assert root.get("viewBox") == "0 0 216 144"
    assert "&lt;script&gt; &amp; co" in picture
    assert not re.search("<(metadata|style|script)|xlink|DOCTYPE|http:", picture)

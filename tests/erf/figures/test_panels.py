"""Pictures for a paper: nothing overlaps at any width, panels in their places, windows on small fields, options."""

import itertools
import logging
from functools import cache

import numpy as np
import pytest
from example_results import make_erf_result
from matplotlib.text import Text

import erf
from erf.drawing import Drawing, read_crop, read_width
from erf.figures.caption import caption, fit_words, row_name
from erf.figures.files import write_comparison
from erf.results.files import ErfResult
from erf.results.single_maps import SingleMaps

NAMES = ("replknet31n", "swin_base_patch4_window7_224.ms_in22k_ft_in1k", "vit_small_patch16_dinov3_qkvb.lvd1689m", "a")


@cache
def results(count=5, sigma=10.0, side=129, random=()):
    return [
        make_erf_result(name, sigma * (1 + i / count), side=side, images=2, random=i in random)
        for i, name in enumerate(itertools.islice(itertools.cycle(NAMES), count))
    ]


def text_boxes(figure):
    """Boxes of all words of a figure in pixels; those of the numbers of an axis may touch their own axis only."""
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    hidden = set()  # labels of ticks beyond the ends of an axis are there, and are not drawn
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts]


def overlaps(figure, slack=1.0):
    boxes = text_boxes(figure)
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack
    ]


def outside(figure):
    width, height = figure.bbox.width, figure.bbox.height
    return [text for text, b in text_boxes(figure) if b.x0 < -1 or b.y0 < -1 or b.x1 > width + 1 or b.y1 > height + 1]


@pytest.mark.parametrize("width", [None, "column", "page", 12])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_words_of_a_comparison_overlap_or_leave_the_figure(width, count):
    figure = erf.draw_comparison(results(count, random=(1,)), width=width)
    assert overlaps(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize("width", [None, "column", "page"])
def test_no_words_of_curves_or_a_result_overlap_or_leave_the_figure(width):
    options = {} if width is None else {"width": width}
    for figure in (
        erf.draw_curves(results(9, 6.0, 65, random=(2,)), **options),
        erf.draw_result(results(2)[1], **options),
    ):
        assert overlaps(figure) == []
        assert outside(figure) == []


def test_squares_have_a_shade_each_and_one_legend_names_them():
    figure = erf.draw_comparison(results(3), crop="none")
    panels = [ax for ax in figure.axes if ax.images]
    colours = [tuple(patch.get_edgecolor() for patch in ax.patches) for ax in panels]
    assert len(set(colours[0])) == 4
    assert len(set(colours)) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["20%", "30%", "50%", "99%"]


def test_asked_thresholds_are_drawn_listed_and_named():
    figure = erf.draw_comparison(results(2), thresholds=(0.9, 0.5))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["50%", "90%"]
    words = [text for text, _ in text_boxes(figure)]
    assert "t = 50%" in words
    assert "t = 99%" not in words
    assert any("Squares hold 50%, 90% of" in text for text in words)
    bare = erf.draw_comparison(results(2), thresholds=())
    assert not bare.legends
    assert not any(ax.patches for ax in bare.axes if ax.images)


def test_small_fields_get_the_same_window_and_an_inset():
    small = [make_erf_result(name, sigma, side=257, images=2) for name, sigma in (("a", 4.0), ("b", 8.0))]
    panels = [ax for ax in erf.draw_comparison(small).axes if ax.images]
    widths = {ax.get_xlim()[1] - ax.get_xlim()[0] for ax in panels}
    assert len(widths) == 1
    (width,) = widths
    largest = max(erf.log_area(result.contribution, [0.99])[0].side_px for result in small)
    assert largest < width < 257 / 1.2
    assert all(len(ax.child_axes) == 1 for ax in panels)
    assert sum(panels[0].get_xlim()) / 2 == pytest.approx(128, abs=1)
    whole = [ax for ax in erf.draw_comparison(small, crop="none").axes if ax.images]
    assert {ax.get_xlim() for ax in whole} == {(-0.5, 256.5)}
    large = [ax for ax in erf.draw_comparison([*small, make_erf_result("c", 70.0, side=257)]).axes if ax.images]
    assert {ax.get_xlim() for ax in large} == {(-0.5, 256.5)}
    chosen = [ax for ax in erf.draw_comparison(small, crop=64).axes if ax.images]
    assert {ax.get_xlim()[1] - ax.get_xlim()[0] for ax in chosen} == {64}


def test_the_published_scale_warns_of_black_panels(caplog):
    dim = make_erf_result("dim", 2.0, side=257, images=2)
    with caplog.at_level(logging.WARNING):
        erf.draw_result(dim, scale="published", crop="none")
        assert "black in the published scale" in caplog.text
        caplog.clear()
        erf.draw_result(dim, crop="none")
        erf.draw_result(make_erf_result("wide", 60.0, side=257, images=2), scale="published")
    assert caplog.text == ""


def test_stages_by_weights_are_rows_and_columns():
    def at(layer, random):
        result = make_erf_result("net", 10.0, random=random)
        weights = {"random": random, "sha256": None if random else "a" * 64}
        provenance = {**result.provenance, "layer": layer, "identity": {"model": "net", "weights": weights}}
        return ErfResult(f"net.{layer}", result.contribution, provenance)

    given = [at(layer, random) for random in (False, True) for layer in "01234"]
    panels = [ax for ax in erf.draw_comparison(given).axes if ax.images and ax.get_title()]
    places = [ax.get_position() for ax in panels]
    assert len({round(place.y1, 6) for place in places}) == 2
    assert len({round(place.x0, 6) for place in places}) == 5


def test_labels_replace_names_and_leave_the_weights():
    given = results(2)
    figure = erf.draw_comparison(given, labels={"replknet31n": "kernels 31 to 13"})
    words = " ".join(text for text, _ in text_boxes(figure))
    assert "kernels 31 to 13" in words
    assert "weights replknet31n" in words.replace("\n", "")


def test_table_and_caption_can_be_left_out():
    tall, bare = erf.draw_comparison(results(2)), erf.draw_comparison(results(2), table=False, caption=False)
    assert bare.get_size_inches()[1] < tall.get_size_inches()[1] - 0.8
    assert "replknet-analysis" not in " ".join(text for text, _ in text_boxes(bare))


def test_caption_says_one_image_the_position_and_reached_squares():
    result = make_erf_result("net", 10.0, images=1)
    provenance = {**result.provenance, "config": {"position": [0.25, 0.75]}}
    words = caption([ErfResult("net", result.contribution, provenance)])
    assert "Map of 1 image (photos)" in words
    assert "unit at 0.25 of the height and 0.75 of the width" in words
    split = np.zeros((33, 40))
    split[0, 0] = split[16, 20] = 1.0
    assert "Squares hold 20%, 30% of" in caption([ErfResult("net", split, result.provenance)])


def test_curves_of_several_sizes_share_a_colour_and_have_a_reference_each():
    def at(name, side):
        result = make_erf_result(name, 6.0, side=side)
        provenance = {**result.provenance, "identity": {"model": name}}
        return ErfResult(f"{name}.size-{side}", result.contribution, provenance, result.sums)

    figure = erf.draw_curves([at(name, side) for name in "ab" for side in (65, 129)])
    lines = figure.axes[0].get_lines()
    colours, styles = [line.get_color() for line in lines], [line.get_linestyle() for line in lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert styles[:4] == ["-", "--", "-", "--"]
    assert styles[4:] == [":", ":"]


def test_many_curves_stand_in_several_rows():
    figure = erf.draw_curves(results(9, 6.0, 65))
    assert len(figure.axes) == 4
    assert len(figure.axes[0].get_lines()) == 9  # eight and the even map


def test_pdf_has_no_type_3_fonts(tmp_path):
    written = write_comparison(results(2), tmp_path, drawing=Drawing(width="column"), formats=["pdf"])
    pdfs = [path for path in written if path.suffix == ".pdf"]
    assert len(pdfs) == 2
    for path in pdfs:
        content = path.read_bytes()
        assert b"/Type3" not in content
        assert b"/FontFile2" in content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": "wide"}, "take column, page, or a number of centimetres"),
        ({"width": 1}, "take column, page, or a number of centimetres"),
        ({"crop": "half"}, "take auto, none, or a number of pixels"),
        ({"columns": 0}, "take 1 or more"),
        ({"thresholds": (1.5,)}, "must lie between 0 and 1"),
        ({"scale": "linear"}, "take one of decades, published"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        erf.draw_comparison(results(1), **options)


def test_widths_and_windows_are_read():
    assert read_width("column") == 3.4
    assert read_width("17.78") == read_width("17.78 cm") == pytest.approx(7.0)
    assert (read_crop("auto"), read_crop("none"), read_crop("64")) == (None, 0, 64)


def test_names_are_broken_where_their_parts_end():
    words, size = fit_words(NAMES[1], 70, size=8.5, bold=True)
    assert words.replace("\n", "") == NAMES[1]
    assert 1 < len(words.split("\n")) <= 3
    assert 5.0 <= size < 8.5
    assert fit_words("a", 70, size=8.5) == ("a", 8.5)


def with_field(result, covers):
    provenance = {**result.provenance, "theoretical_field": {"covers_px": covers, "side_px": [41, 61], "reason": None}}
    return ErfResult(result.name, result.contribution, provenance, result.sums, result.image_names)


def test_outlines_lie_where_the_field_and_the_gaussian_are(caplog):
    result = with_field(make_erf_result("outlined", 10.0, side=129, images=2), [[44, 84], [34, 94]])
    figure = erf.draw_comparison([result, result], outlines=("theoretical", "gaussian"), crop="none", width="column")
    assert overlaps(figure) == []
    assert outside(figure) == []
    names = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert names[1] == ["theoretical field", "Gaussian, one standard deviation"]
    panel = next(ax for ax in figure.axes if ax.images)
    *_, field, circle = panel.patches
    assert (field.get_x(), field.get_y(), field.get_width(), field.get_height()) == (33.5, 43.5, 61, 41)
    assert circle.center == (64, 64)
    assert circle.radius == pytest.approx(float(result.gaussian_sigma_px))
    assert circle.radius == pytest.approx(10, rel=0.2)
    ax = erf.plot(result, outlines=("gaussian",))
    assert "Gaussian, one standard deviation" in [text.get_text() for text in ax.get_legend().get_texts()]
    whole = with_field(make_erf_result("whole", 10.0, side=129, images=2), [[-9, 130], [-9, 130]])
    for _ in range(2):
        assert len(erf.draw_result(whole, outlines=("theoretical",)).legends) == 1
    assert caplog.text.count("whole: the theoretical field is not drawn: it covers the whole image (140 x 140") == 1
    with pytest.raises(ValueError, match="outline 'circle': take one of theoretical, gaussian"):
        erf.draw_result(result, outlines=("circle",))


@pytest.mark.parametrize("width", [None, "column", "page"])
@pytest.mark.parametrize("count", [1, 7])
def test_no_words_of_a_sheet_overlap_or_leave_the_figure(width, count):
    whole = make_erf_result("vit_small_patch16_dinov3_qkvb.lvd1689m", 6.0, side=33, images=count, random=count == 7)
    names = tuple(f"n0144076{i}/a_rather_long_name_of_an_image_{i}.JPEG" for i in range(count))
    maps = np.repeat(whole.contribution[None].astype(np.float16), count, axis=0)
    kept = SingleMaps(maps, np.ones(count), names, np.zeros((count, 33, 33, 3), np.uint8))
    result = ErfResult(whole.name, whole.contribution, whole.provenance, whole.sums, names, kept)
    figure = erf.draw_sheet(result, overlay=count == 7, width=width, outlines=("gaussian",))
    assert overlaps(figure) == []
    assert outside(figure) == []


def test_a_network_with_its_published_weights_is_named_once():
    def named(name, **weights):
        result = make_erf_result(name, 5.0, side=33, images=1)
        return ErfResult(name, result.contribution, {**result.provenance, "weights": weights})

    record = {"model": "net.in1k", "label": "weights net.in1k", "source": "hub", "random": False}
    assert row_name(named("net", **record)) == "net.in1k"
    assert row_name(named("net.in1k", **record)) == "net.in1k"
    assert row_name(named("network", **record)) == "network, weights net.in1k"
    assert row_name(named("net", **{**record, "source": "file"})) == "net, weights net.in1k"
    label = "RANDOM WEIGHTS (seed 0)"
    assert row_name(named("net", **{**record, "random": True, "label": label})) == f"net, {label}"

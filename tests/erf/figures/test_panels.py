"""Pictures for a paper: no overlaps at any width, places of panels, windows for small fields, and options."""

import itertools
import logging
from functools import cache

import numpy as np
import pytest
from example_results import make_erf_result
from matplotlib.text import Text

import erf
from erf.drawing import Drawing, read_crop, read_width
from erf.figures.caption import caption, row_name, weights_words
from erf.figures.files import redraw_alike, write_comparison, write_result
from erf.figures.outlines import _warn_once
from erf.figures.window import choose_window, settle_crop
from erf.results.files import ErfResult
from erf.results.single_maps import SingleMaps
from runkit.figure_text import fit_words

NAMES = ("replknet31n", "swin_base_patch4_window7_224.ms_in22k_ft_in1k", "vit_small_patch16_dinov3_qkvb.lvd1689m", "a")


@cache
def results(count=5, sigma=10.0, side=129, random=()):
    return [
        make_erf_result(name, sigma * (1 + i / count), side=side, images=2, random=i in random)
        for i, name in enumerate(itertools.islice(itertools.cycle(NAMES), count))
    ]


def result_at(name, side):
    """A network measured at an image size."""
    result = make_erf_result(name, 6.0, side=side)
    provenance = {**result.provenance, "identity": {"model": name}}
    return ErfResult(f"{name}.size-{side}", result.contribution, provenance, result.sums)


def text_boxes(figure):
    """Boxes in pixels of all texts of a figure; tick labels may touch nothing but their own axis."""
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


@pytest.mark.parametrize("shape", [(384, 128), (128, 384), (200, 150)])
@pytest.mark.parametrize("width", [None, "page"])
def test_no_words_overlap_where_maps_are_not_square(shape, width):
    height, width_px = shape
    squared = (np.arange(height)[:, None] - height // 2) ** 2 + (np.arange(width_px) - width_px // 2) ** 2
    made = make_erf_result("net", 10.0, images=2)
    several = [
        ErfResult(f"resnet18n.layer-{i}", np.exp(-squared / (2 * (8 + 8 * i) ** 2)), made.provenance) for i in range(5)
    ]
    figure = erf.draw_comparison(several, width=width, crop="none")
    assert overlaps(figure) == []
    assert outside(figure) == []
    drawn = [ax.get_window_extent() for ax in figure.axes if ax.images]
    if height > width_px:
        assert sum(box.width * box.height for box in drawn) > 0.2 * figure.bbox.width * figure.bbox.height


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
    assert [text.get_text() for text in legend.get_texts()] == ["published squares:", "20%", "30%", "50%", "99%"]


def test_asked_thresholds_are_drawn_listed_and_named():
    figure = erf.draw_comparison(results(2), thresholds=(0.9, 0.5))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["published squares:", "50%", "90%"]
    words = [text for text, _ in text_boxes(figure)]
    assert "t = 50%" in words
    assert "t = 99%" not in words
    assert any("Published squares hold 50%, 90% of" in text for text in words)
    bare = erf.draw_comparison(results(2), thresholds=())
    assert not bare.legends
    assert not any(ax.patches for ax in bare.axes if ax.images)


def test_small_fields_get_the_same_window_and_the_whole_map_below():
    small = [make_erf_result(name, sigma, side=257, images=2) for name, sigma in (("a", 4.0), ("b", 8.0))]
    drawn = [ax for ax in erf.draw_comparison(small).axes if ax.images]
    panels = [ax for ax in drawn if ax.get_label() != "whole map"]
    widths = {ax.get_xlim()[1] - ax.get_xlim()[0] for ax in panels}
    assert len(widths) == 1
    (width,) = widths
    largest = max(erf.log_area(result.contribution, [0.99])[0].side_px for result in small)
    assert largest < width < 257 / 1.2
    assert len(drawn) == 2 * len(panels) == 4
    inset = erf.plot(small[0], crop="auto")
    assert len(inset.child_axes) == 1
    assert sum(panels[0].get_xlim()) / 2 == pytest.approx(128, abs=1)
    whole = [ax for ax in erf.draw_comparison(small, crop="none").axes if ax.images]
    assert {ax.get_xlim() for ax in whole} == {(-0.5, 256.5)}
    large = [ax for ax in erf.draw_comparison([*small, make_erf_result("c", 70.0, side=257)]).axes if ax.images]
    assert {ax.get_xlim() for ax in large} == {(-0.5, 256.5)}
    chosen = [ax for ax in erf.draw_comparison(small, crop=64).axes if ax.images and ax.get_label() != "whole map"]
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


def test_a_panel_that_is_black_in_the_published_scale_says_so_in_the_caption():
    dim, wide = make_erf_result("dim", 2.0, side=257, images=2), make_erf_result("wide", 60.0, side=257, images=2)
    figure = erf.draw_comparison([dim, wide], scale="published", crop="none")
    words = " ".join(figure.texts[-1].get_text().split())
    assert "More than 99% of the panel of dim is black in the published scale" in words
    assert "black" not in erf.draw_comparison([wide], scale="published").texts[-1].get_text()


def test_squares_of_the_mass_are_drawn_listed_and_named():
    result = make_erf_result("net", 10.0, side=129, images=2)
    scaled = ErfResult("net", 1e6 * result.contribution, result.provenance)
    sides = [area.side_px for area in erf.mass_area(result.contribution, (0.2, 0.3, 0.5, 0.99))]
    assert sides != [area.side_px for area in erf.log_area(scaled.contribution)]
    for one in (result, scaled):
        figure = erf.draw_comparison([one], squares="mass", crop="none")
        panel = next(ax for ax in figure.axes if ax.images)
        assert [patch.get_width() for patch in panel.patches] == sides
        words = [" ".join(text.split()) for text, _ in text_boxes(figure)]
        assert "squares of the mass:" in words
        assert any("Squares of the mass hold 20%, 30%, 50%, 99% of the contribution itself." in text for text in words)
        assert any(text.endswith(f"({sides[1]})") for text in words)
    ax = erf.plot(result, squares="mass")
    assert [patch.get_width() for patch in ax.patches] == sides
    assert ax.get_legend().get_texts()[0].get_text() == "squares of the mass:"
    with pytest.raises(ValueError, match="squares='log': take one of published, mass"):
        erf.draw_result(result, squares="log")


@pytest.mark.parametrize("saved", [True, False])
def test_pictures_of_single_results_of_a_run_have_one_window(saved, tmp_path, monkeypatch):
    given = [make_erf_result(name, sigma, side=257, images=2) for name, sigma in (("a", 7.0), ("b", 14.0))]
    limits = {}

    def keep(figure, stem, *rest, **options):
        limits[stem.name] = [ax.get_xlim() for ax in figure.axes if ax.images and ax.get_label() != "whole map"]
        return []

    monkeypatch.setattr("erf.figures.files.save_figure", keep)
    if saved:
        from erf.visualize import main

        for result in given:
            result.save(tmp_path / "npz")
        assert main(["--from-npz", str(tmp_path / "npz"), "--output", str(tmp_path), "--quiet"]) == 0
    else:
        for result in given:
            write_result(result, tmp_path, drawing=Drawing(), formats=["png"])
        assert limits["a"] != limits["b"]  # each as suits it alone
        redraw_alike(given, tmp_path, drawing=Drawing(), formats=["png"])
        write_comparison(given, tmp_path, drawing=Drawing(), formats=["png"])
    assert limits["a"] == limits["b"]
    assert limits["comparison"] == limits["a"] + limits["b"]


def test_the_common_window_of_fields_of_all_sizes_is_the_whole_map():
    maps = [(make_erf_result("x", sigma, side=257, images=1).contribution, (128, 128)) for sigma in (4.0, 70.0)]
    assert settle_crop(maps, Drawing()).crop == "none"
    small = settle_crop(maps[:1], Drawing()).crop
    assert choose_window(maps[:1], Drawing(crop=small)) == choose_window(maps[:1], Drawing())
    assert settle_crop(maps[:1], Drawing(crop=48)).crop == 48
    tiny = np.zeros((31, 31))
    tiny[8:23, 8:23] = 1.0  # its square of 15 pixels is just smaller than half
    assert settle_crop([(tiny, (15, 15))], Drawing()).crop == "none"


def test_a_single_panel_and_its_legend_stand_in_the_middle():
    figure = erf.draw_result(results(1)[0], width="page")
    figure.draw_without_rendering()
    panel = next(ax for ax in figure.axes if ax.images).get_window_extent()
    bar = figure.axes[-1].get_tightbbox()
    left, right = panel.x0, figure.bbox.width - bar.x1
    assert abs(left - right) < 0.5 * figure.dpi
    legend = figure.legends[0].get_window_extent()
    assert (legend.x0 + legend.x1) / 2 == pytest.approx((panel.x0 + panel.x1) / 2, abs=0.1 * figure.dpi)


def test_numbers_of_narrow_panels_do_not_meet():
    given = [make_erf_result(name, 90.0, side=1025, images=1) for name in "abcdefgh"]
    figure = erf.draw_comparison(given, width="column", columns=4, crop="none", table=False, caption=False)
    assert overlaps(figure) == []
    assert {len(ax.get_xticks()) for ax in figure.axes if ax.images} == {2}


def test_all_panels_of_a_row_have_numbers_or_none():
    figure = erf.draw_comparison(results(3), width="column", crop="none")
    shown = {}
    for ax in (ax for ax in figure.axes if ax.images):
        row = round(ax.get_position().y1, 6)
        shown.setdefault(row, set()).add(ax.xaxis.get_tick_params()["labelbottom"])
    assert len(shown) == 2
    assert all(len(states) == 1 for states in shown.values())


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


def before_after(*names):
    """Results in the order of a run with `--before-after`; for a name with a minus, only trained ones."""

    def of(name, random):
        result = make_erf_result(name, 10.0, side=65, images=2, random=random)
        weights = {"random": random, "sha256": None if random else name}
        provenance = {**result.provenance, "identity": {"model": name, "weights": weights}}
        return ErfResult(f"{name}.{'random' if random else 'pretrained'}", result.contribution, provenance)

    kinds = {name: (False,) if name.endswith("-") else (True, False) for name in names}
    return [of(name, random) for name, both in kinds.items() for random in both]


def rows_of(figure):
    """Titles of the panels, row by row from the top, each with its horizontal position."""
    rows = {}
    for ax in (ax for ax in figure.axes if ax.images and ax.get_title()):
        place = ax.get_position()
        rows.setdefault(-round(place.y1, 4), {})[round(place.x0, 4)] = ax.get_title().replace("\n", "")
    places = sorted({left for row in rows.values() for left in row})
    return [{places.index(left): title for left, title in row.items()} for _, row in sorted(rows.items())]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("columns", [None, 1, 2, 3, 4, 6])
def test_random_stands_above_trained_in_a_column_for_each_network_whatever_the_columns(columns, reverse):
    names, options = "abc", {"before_after": True, "crop": "none", **({"columns": columns} if columns else {})}
    given = before_after(*names)
    figure = erf.draw_comparison(given if not reverse else given[::-1], **options)
    names = names[::-1] if reverse else names
    blocks = [names[i : i + (columns or 3)] for i in range(0, 3, columns or 3)]
    assert rows_of(figure) == [
        {at: f"{name}.{weights}" for at, name in enumerate(block)}
        for block in blocks
        for weights in ("random", "pretrained")
    ]
    assert overlaps(figure) == []
    if columns == 3:  # without the option the order of the panels is the caller's
        assert rows_of(erf.draw_comparison(given, columns=3))[0] == {0: "a.random", 1: "a.pretrained", 2: "b.random"}


def test_a_grid_that_is_too_wide_for_the_figure_is_split_into_blocks():
    rows = rows_of(erf.draw_comparison(before_after(*"abcde"), width="column", crop="none", table=False, caption=False))
    assert [list(row.values()) for row in rows] == [
        ["a.random", "b.random"],
        ["a.pretrained", "b.pretrained"],
        ["c.random", "d.random"],
        ["c.pretrained", "d.pretrained"],
        ["e.random"],
        ["e.pretrained"],
    ]


def test_curves_of_a_network_before_and_after_training_are_in_one_row():
    figure = erf.draw_curves(before_after(*"abcde"))
    rows = [[text.get_text()[0] for text in legend.get_texts()] for legend in figure.legends[:-1]]
    assert rows == [list("aabbcc"), list("ddee")]


def test_more_networks_than_fit_a_row_and_missing_weights_leave_the_columns_whole():
    figure = erf.draw_comparison(before_after("a-", *"bcdefgh"), before_after=True, crop="none")
    rows = [{at: title.partition(".")[2] for at, title in row.items()} for row in rows_of(figure)]
    assert [set(row.values()) for row in rows] == [{"random"}, {"pretrained"}] * 2
    assert [sorted(row) for row in rows] == [[1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert overlaps(figure) == []
    flagged = [
        ErfResult(one.name, one.contribution, {**one.provenance, "config": {"before_after": True}})
        for one in before_after(*"abc")
    ]
    assert rows_of(erf.draw_comparison(flagged, columns=2, crop="none"))[1] == {0: "a.pretrained", 1: "b.pretrained"}


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
    assert "unit at 25% of the height and 75% of the width, from the top left" in words
    split = np.zeros((33, 40))
    split[0, 0] = split[16, 20] = 1.0
    assert "Published squares hold 20%, 30% of" in caption([ErfResult("net", split, result.provenance)])


def test_caption_says_how_random_weights_differ_from_those_the_library_draws():
    def made(name, init, random=True):
        result = make_erf_result(name, 10.0, images=2, random=random)
        weights = {**result.provenance["weights"], "init": init}
        return ErfResult(name, result.contribution, {**result.provenance, "weights": weights})

    woken = "timm's, with 12 layer scales set to 1"
    other = woken.replace("12", "36")
    words = caption([made("a", woken), made("b", other), made("c", "timm's"), made("d", None, random=False)])
    assert "\nRandom weights of a, b: timm's, with layer scales set to 1.\n" in words
    assert "Random" not in caption([made("c", "timm's"), made("d", None, random=False)])


def test_caption_attributes_what_differs_between_results():
    def made(name, model, side, **changes):
        result = make_erf_result(name, 10.0, side=side, images=2)
        provenance = {**result.provenance, "identity": {"model": model}, **changes}
        return ErfResult(name, result.contribution, provenance, result.sums)

    words = caption([made("a", "a", 65), made("b", "b", 67, precision="bfloat16")]).replace("\u00a0", " ")
    assert "at 65 × 65 pixels (a), 67 × 67 pixels (b), float32 (a), bfloat16 (b)." in words
    same = caption([made("a.size-65", "a", 65), made("a.size-67", "a", 67)]).replace("\u00a0", " ")
    assert "at 65 × 65 pixels, 67 × 67 pixels, float32." in same
    two = [made("net.one", "net", 65, layer="one"), made("net.two", "net", 65, layer="two"), made("b", "b", 65)]
    assert caption(two).endswith("layer one of net.one; two of net.two; last of b")
    sizes = [made("a.size-65", "a", 65), made("a.size-67", "a", 67), made("b", "b", 65)]
    named = caption(sizes, labels={"a.size-65": "Net A"}).replace("\u00a0", " ")
    assert "at 65 × 65 pixels (Net A, b), 67 × 67 pixels (a.size-67)" in named
    units = [made(name, name, 65, config={"position": at}) for name, at in (("a", [0, 0]), ("b", [0.5, 0.2]))]
    assert "from the top left of a; unit at 50% of the height" in caption(units)


def test_caption_says_how_images_were_normalised_and_when_adding_ended():
    result = make_erf_result("net", 10.0, images=12)
    identity = {"model": "net", "mean": [0.5], "std": [0.5, 0.5, 0.25]}
    stopping = {"until": 0.05, "interval_width": 0.04, "reached": True}
    words = caption(
        [ErfResult("net", result.contribution, {**result.provenance, "identity": identity, "stopping": stopping})]
    )
    assert "float32, images normalised by mean 0.5 and standard deviation 0.5, 0.5, 0.25." in words
    assert "until the 95% interval of the side that holds half of the contribution was narrower than 5% of it." in words


def test_weights_that_the_user_built_are_not_called_trained():
    def built(name, random=False):
        result = make_erf_result(name, 10.0, images=2, random=random)
        weights = {"model": name, "source": "built", "random": False, "label": f"weights as built by {name}"}
        provenance = result.provenance if random else {**result.provenance, "weights": weights}
        return ErfResult(name, result.contribution, provenance, result.sums)

    figure = erf.draw_curves([built("tiny.py:build"), built("b", random=True)])
    assert [text.get_text() for text in figure.legends[1].get_texts()][:2] == ["weights as given", "random weights"]
    assert row_name(built("tiny.py:build")) == "tiny.py:build, weights as built"


def test_caption_names_the_squares_that_do_not_fit_in_a_map():
    off = make_erf_result("off", 10.0, images=2)
    split = np.zeros((33, 40))
    split[0, 0] = split[16, 20] = 1.0
    off = ErfResult("off", split, off.provenance)
    inside = make_erf_result("inside", 10.0, images=2)

    def words(*results):
        return " ".join(erf.draw_comparison(results, crop="none").texts[-1].get_text().split())

    assert "Squares that hold 50% or 99% would reach beyond the map." in words(off)
    assert "Squares that hold 50% or 99% would reach beyond the maps." in words(off, off)
    assert "Squares that hold 50% or 99% would reach beyond the map of off." in words(off, inside)
    assert "beyond" not in words(inside)


def test_caption_says_whose_layer_each_is_and_how_many_images_were_skipped():
    def at(name, layer, skipped=0):
        result = make_erf_result(name, 10.0, images=4)
        torn = [{"image": f"{i}.jpg", "reason": "cut off"} for i in range(skipped)]
        return ErfResult(name, result.contribution, {**result.provenance, "layer": layer, "skipped": torn})

    different = caption([at("a", "last (stages.3)"), at("b", "last (layer4)")], labels={"b": "ours"})
    assert different.endswith("layer last (stages.3) of a; last (layer4) of ours")
    assert caption([at("a", "last"), at("b", "last")]).endswith("layer last")
    assert "skipped" not in different
    assert "2 of 6 images were skipped." in caption([at("a", "last", 2), at("b", "last", 2)])
    assert "Images that were skipped: 0 to 1." in caption([at("a", "last", 1), at("b", "last")])


def test_curves_of_several_sizes_share_a_colour_and_have_a_reference_each():
    figure = erf.draw_curves([result_at(name, side) for name in "ab" for side in (65, 129)])
    lines = figure.axes[0].get_lines()
    colours, styles = [line.get_color() for line in lines], [line.get_linestyle() for line in lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert styles[:4] == ["-", "-.", "-", "-."]
    assert styles[4:] == [":", ":"]
    key = [text.get_text() for text in figure.legends[1].get_texts()]
    assert key[:2] == ["65 × 65 pixels", "129 × 129 pixels"]


def stages(*names, layers="01", weights=(False, True)):
    """Results of networks at several stages, with trained and random weights."""

    def at(name, layer, random):
        result = make_erf_result(name, 6.0, side=65, images=2, random=random)
        provenance = {**result.provenance, "layer": layer, "identity": {"model": name}}
        return ErfResult(f"{name}.{layer}", result.contribution, provenance, result.sums, result.image_names)

    return [at(name, layer, random) for name in names for layer in layers for random in weights]


def test_a_network_has_one_colour_in_all_panels_and_dashes_are_random_weights():
    given = stages(*"abcdefghi", layers="0")
    figure = erf.draw_curves(given)
    assert len(figure.axes) == 6  # eighteen lines in parts of eight
    drawn = [line for ax in figure.axes[::2] for line in ax.get_lines() if line.get_gid()]
    assert [line.get_color() for line in drawn] == [
        line.get_color() for ax in figure.axes[1::2] for line in ax.get_lines() if line.get_gid()
    ]
    colours = {}
    for result, line in zip(given, drawn, strict=True):
        colours.setdefault(result.provenance["identity"]["model"], set()).add(line.get_color())
        assert line.get_linestyle() == ("--" if result.random_weights else "-")
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == 9


def test_stages_of_one_network_have_a_colour_each_trained_and_random():
    given = stages("net", layers="0123")
    lines = [line for line in erf.draw_curves(given).axes[0].get_lines() if line.get_gid()]
    colours = [line.get_color() for line in lines]
    assert colours[::2] == colours[1::2]
    assert len(set(colours)) == 4
    assert [line.get_linestyle() for line in lines] == ["-", "--"] * 4


def test_squares_outside_a_window_are_not_named():
    wide = make_erf_result("wide", 20.0, side=129, images=2)
    sides = [area.side_px for area in erf.log_area(wide.contribution)]
    crop = (sides[1] + sides[2]) // 2  # between the squares of 30% and of 50%
    figure = erf.draw_comparison([wide, wide], crop=crop)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["published squares:", "20%", "30%"]
    words = " ".join(" ".join(text for text, _ in text_boxes(figure)).split())
    assert (
        "Published squares hold 20%, 30% of log10(score + 1) / max; those of 50%, 99% lie outside the window." in words
    )
    ax = erf.plot(wide, crop=crop)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["published squares:", "20%", "30%"]
    assert "Published squares that hold 99% lie outside the window." in caption([wide], shares=(), outside=(0.99,))
    assert "; that of 99% lies outside" in caption([wide], shares=(0.2,), outside=(0.99,))


def test_a_square_that_lies_outside_the_window_of_one_panel_is_named_with_it():
    wide, small = (make_erf_result(name, sigma, side=257, images=2) for name, sigma in (("wide", 30.0), ("small", 6.0)))
    side = erf.mass_area(wide.contribution, [0.9])[0].side_px
    assert erf.mass_area(wide.contribution, [0.5])[0].side_px < side - 10
    options = {"squares": "mass", "thresholds": (0.5, 0.9)}
    words = " ".join(erf.draw_comparison([wide, small], crop=side - 8, **options).texts[-1].get_text().split())
    assert "Squares of the mass hold 50%, 90% of the contribution itself." in words
    assert "In the panel of wide the square of 90% lies outside the window." in words
    whole = " ".join(erf.draw_comparison([wide, small], crop=side + 8, **options).texts[-1].get_text().split())
    assert "outside" not in whole


def lines_of(ax):
    """Boxes of a panel's squares and rectangles, in pixels of the figure."""
    return [patch.get_window_extent() for patch in ax.patches]


@pytest.mark.parametrize("crop", ["auto", 24, 48, 100])
def test_an_inset_on_axes_hides_no_line_and_nothing_of_the_map(crop):
    result = with_field(make_erf_result("a", 4.0, side=257, images=2), [[104, 152], [104, 152]])
    ax = erf.plot(result, crop=crop, outlines=("theoretical", "gaussian"))
    ax.figure.canvas.draw()
    for inset in ax.child_axes:
        place = inset.get_window_extent()
        for line in lines_of(ax):
            inside = line.x0 < place.x0 and place.x1 < line.x1 and line.y0 < place.y0 and place.y1 < line.y1
            assert inside or not place.overlaps(line)
        (left, up), (right, down) = ax.transData.inverted().transform([(place.x0, place.y1), (place.x1, place.y0)])
        hidden = ax.images[0].get_array()[int(np.ceil(up)) : int(down), int(np.ceil(left)) : int(right)]
        assert (hidden > -3.6).mean() < 0.03  # of four decades
    assert len(ax.child_axes) == (crop != 24)


@pytest.mark.parametrize("crop", ["auto", 16, 24, 32, 48, 64, 100])
@pytest.mark.parametrize("width", ["column", "page"])
def test_the_whole_map_stands_below_its_panel(crop, width):
    covers = [[104, 152], [104, 152]]
    given = [with_field(make_erf_result(name, 4.0 + i, side=257, images=2), covers) for i, name in enumerate("abc")]
    figure = erf.draw_comparison(given, crop=crop, width=width, outlines=("theoretical", "gaussian"))
    assert overlaps(figure) == []
    assert outside(figure) == []
    panels = [ax for ax in figure.axes if ax.images and ax.get_label() != "whole map"]
    below = [ax for ax in figure.axes if ax.get_label() == "whole map"]
    assert len(below) == 3
    assert not any(ax.child_axes for ax in panels)
    figure.canvas.draw()
    for small in below:
        assert not any(small.get_window_extent().overlaps(ax.get_window_extent()) for ax in panels)
        *_, window = small.patches
        assert window.get_width() == panels[0].get_xlim()[1] - panels[0].get_xlim()[0]


def test_squares_that_coincide_alternate_and_the_legend_says_so():
    peak = np.full((129, 129), 1e-6)
    peak[64, 64] = 1.0  # one pixel holds more than half, so the squares have the least side, 3
    result = ErfResult("peak", peak, make_erf_result("peak", 5.0).provenance)
    figure = erf.draw_comparison([result, make_erf_result("wide", 20.0, side=129)], crop="none")
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "squares that coincide"
    panel, wide = (ax for ax in figure.axes if ax.images and ax.get_title())
    same = [patch for patch in panel.patches if patch.get_width() == 3]
    assert len(same) >= 2
    offsets, dashes = zip(*(patch._dash_pattern for patch in same), strict=True)
    assert len(set(offsets)) == len(same)  # each dash in the gaps of the others
    assert all(gap == pytest.approx((len(same) - 1) * dash) for dash, gap in dashes)
    assert len({patch.get_edgecolor() for patch in same}) == len(same)
    assert all(patch._dash_pattern[1] is None for patch in wide.patches)
    alone = erf.draw_result(make_erf_result("wide", 20.0, side=129))
    assert "squares that coincide" not in [text.get_text() for text in alone.legends[0].get_texts()]


def test_a_line_is_thinner_than_the_gap_to_the_next_square():
    figure = erf.draw_comparison(results(6), width="column", crop="none")
    for ax in (ax for ax in figure.axes if ax.images and ax.get_title()):
        boxes = sorted(ax.patches, key=lambda patch: patch.get_width())
        for one, other in itertools.pairwise(boxes):
            gap = (other.get_window_extent().width - one.get_window_extent().width) / 2 * 72 / figure.dpi
            assert max(one.get_linewidth(), other.get_linewidth()) <= max(gap, 0.4)


@pytest.mark.parametrize("width", ["column", "page", 12])
def test_titles_of_a_row_are_level_and_words_stay_whole(width):
    figure = erf.draw_comparison(results(5, random=(1, 3)), width=width)
    figure.draw_without_rendering()
    rows = {}
    for ax in (ax for ax in figure.axes if ax.images and ax.get_title()):
        weights = next(t for t in ax.texts if "weights" in t.get_text().lower())
        ends = [figure.transFigure.inverted().transform((0, t._get_xy_display()[1]))[1] for t in (ax.title, weights)]
        looks = (ax.title.get_fontsize(), weights.get_fontsize(), ax.title.get_verticalalignment())
        rows.setdefault(round(ax.get_position().y1, 6), set()).add((*np.round(ends, 6), *looks))
        for words in (ax.get_title(), weights.get_text()):
            lines = words.split("\n")
            joined = "".join(line if line[-1] in "_.-/" else f"{line} " for line in lines).strip()
            assert joined in {*NAMES, *(f"weights {name}" for name in NAMES), "RANDOM WEIGHTS (seed 3)"}
    assert all(len(looks) == 1 for looks in rows.values())


def test_a_text_is_broken_at_its_blanks_first():
    words, size = fit_words("weights replknet31n.imagenette", 80, size=7.0)
    assert words == "weights\nreplknet31n.imagenette"
    assert size >= 5.6


def test_many_curves_stand_in_several_rows():
    given = [*results(8, 2.0, 65), make_erf_result("wide", 20.0, side=65, images=2)]
    figure = erf.draw_curves(given)
    assert len(figure.axes) == 4
    assert [len(ax.get_lines()) for ax in figure.axes[::2]] == [6, 5]  # one of them is the even map
    for one, other in (figure.axes[::2], figure.axes[1::2]):  # one field is large, so no row has logarithmic sides
        assert (one.get_xscale(), one.get_xlim(), one.get_ylim()) == ("linear", other.get_xlim(), other.get_ylim())
        assert other.get_xscale() == "linear"


def test_sizes_of_a_network_stay_in_one_row():
    figure = erf.draw_curves([result_at(f"net{index}", side) for index in range(5) for side in (65, 129)])
    assert [sum(line.get_gid() is not None for line in ax.get_lines()) for ax in figure.axes[::2]] == [6, 4]


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
        ({"crop": 130}, "crop 130: the map has only 129 x 129 pixels; take at most 129"),
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
    assert all(line.get_zorder() > square.get_zorder() for line in (field, circle) for square in panel.patches[:-2])
    window = erf.draw_comparison([result, result], outlines=("theoretical", "gaussian"), crop=32, width="column")
    names = [[text.get_text() for text in legend.get_texts()] for legend in window.legends]
    assert names[-1] == ["Gaussian, one standard deviation"]
    assert "The theoretical field lies outside the window." in " ".join(window.texts[-1].get_text().split())
    whole = with_field(make_erf_result("whole", 10.0, side=129, images=2), [[-9, 130], [-9, 130]])
    both = " ".join(erf.draw_comparison([whole, result], outlines=("theoretical",)).texts[-1].get_text().split())
    assert "The theoretical field of whole is not drawn: it covers the whole image." in both
    caplog.clear()
    _warn_once.cache_clear()
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


def test_a_sheet_says_whose_the_circle_is_and_its_bar_has_the_colours_of_the_overlay():
    whole = make_erf_result("net", 6.0, side=33, images=2)
    maps = np.repeat(whole.contribution[None].astype(np.float16), 2, axis=0)
    kept = SingleMaps(maps, np.ones(2), ("a", "b"), np.full((2, 33, 33, 3), 127, np.uint8))
    result = ErfResult("net", whole.contribution, whole.provenance, whole.sums, ("a", "b"), kept)
    plain = erf.draw_sheet(result)
    over = erf.draw_sheet(result, overlay=True, outlines=("gaussian",))
    words = [" ".join(figure.texts[-1].get_text().split()) for figure in (plain, over)]
    assert ["Gaussian of the mean map" in text for text in words] == [False, True]
    assert ["transparent" in text for text in words] == [False, True]
    lowest, highest = (
        [tuple(np.round(bar.cmap(value)[:3], 2)) for bar in (figure.axes[-1]._colorbar for figure in (plain, over))]
        for value in (0.0, 1.0)
    )
    assert lowest[1] == (0.5, 0.5, 0.5)  # the photograph alone, as where the map has its least value
    assert lowest[0] != lowest[1]
    assert highest[1] == pytest.approx([0.9 * colour + 0.05 for colour in highest[0]], abs=0.011)


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
    assert weights_words(named("net.in1k", **record)) == "trained weights"
    assert weights_words(named("net", **record)) == weights_words(named("net.layer-2", **record)) == "weights in1k"
    assert weights_words(named("network", **record)) == "weights net.in1k"
    assert weights_words(named("net", **record), Drawing(labels={"net": "ours"})) == "weights net.in1k"
    assert row_name(named("net", **{**record, "random": True, "label": label})) == f"net, {label}"

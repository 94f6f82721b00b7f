"""The section of a report on receptive fields agrees with the measures."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from example_results import make_erf_result
from PIL import Image

from erf.figures.page import SHARES, describe_maps, read_folder
from erf.measures.squares import log_area, mass_area
from erf.results.files import save_result
from erf.visualize import main
from runkit import UserError


@pytest.fixture(scope="module")
def results():
    return [make_erf_result("wide", 14), make_erf_result("narrow", 5, random=True), make_erf_result("even", 400)]


@pytest.fixture(scope="module")
def body(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return describe_maps(results, folder, folder / "report.html").body


def test_the_slider_looks_up_the_squares_of_the_measures(results, body):
    data = json.loads(re.search(r'id="squares-data">(.*?)</script>', body)[1])
    assert data["shares"] == list(SHARES)
    for result, one in zip(results, data["maps"], strict=True):
        assert one["size"] == [65, 65]
        assert one["centre"] == [32, 32]
        for measure, areas in {"mass": mass_area, "log": log_area}.items():
            expected = [area.side_px for area in areas(result.contribution, SHARES)]
            assert one["sides"][measure] == expected
    assert data["maps"][2]["sides"]["mass"][-1] == 65  # an even map: 99% needs all of it
    assert data["maps"][0]["sides"]["mass"][49] > data["maps"][1]["sides"]["mass"][49]


def test_the_numbers_at_first_are_those_at_half(results, body):
    rows = re.findall(r'<tr data-map="\d".*?</tr>', body, flags=re.DOTALL)
    for result, row in zip(results, rows, strict=True):
        for areas in (mass_area, log_area):
            (area,) = areas(result.contribution, [0.5])
            assert f">{area.side_px} px</td>" in row
            assert f">{area.ratio:.2%}</td>" in row


def test_pictures_share_one_scale_of_four_decades(results, body):
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', body)
    levels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in pictures]
    for result, level in zip(results, levels, strict=True):
        expected = np.log10(np.maximum(result.contribution / result.contribution.max(), 1e-4)) / 4 + 1
        assert np.abs(level / 255 - expected).max() < 0.003
    assert levels[1].min() == 0
    assert levels[2].min() > 250  # nearly even: all but the colour of the maximum


def test_a_large_map_is_shown_smoothed_and_measured_in_full(results, tmp_path):
    """Also covers files of schema 1, which lack the sums of each image and therefore have no intervals and no bands."""
    contribution = np.full((1024, 1024), 1e-3)
    contribution[512:516, 512:516] = 1.0
    large = replace(results[0], contribution=contribution, sums=None, image_names=())
    body = describe_maps([large], tmp_path, tmp_path / "report.html").body
    (picture,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', body)
    level = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert level.shape == (256, 256)  # a whole factor smaller
    assert level[128, 128] == level.max() > 235  # of 255: the mean of a block and its neighbours
    assert level[128, 127] == level[127, 128] > round(255 / 4)
    assert level[0, 0] == round(255 / 4)
    data = json.loads(re.search(r'id="squares-data">(.*?)</script>', body)[1])
    assert data["maps"][0]["size"] == [1024, 1024]
    assert data["maps"][0]["sides"]["mass"] == [area.side_px for area in mass_area(contribution, SHARES)]
    assert "-band" not in body
    assert "[" not in re.sub(r"<script.*", "", body, flags=re.DOTALL)


@pytest.mark.parametrize("side", [512, 1024])
def test_the_grid_of_strides_makes_no_cross_hatch(results, tmp_path, side):
    distance = np.arange(side) - side // 2
    smooth = np.exp(-((distance / (side / 5)) ** 2))[:, None] * np.exp(-((distance / (side / 5)) ** 2))
    grid = 1 + 0.9 * np.cos(2 * np.pi * np.arange(side) / (side // 256 * 1.5))
    levels = []
    for contribution in (smooth, smooth * grid * grid[:, None]):
        one = replace(results[0], contribution=contribution, sums=None, image_names=())
        body = describe_maps([one], tmp_path, tmp_path / "report.html").body
        (picture,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', body)
        levels.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).astype(float))
    middle = slice(96, 160)
    steps = [np.abs(np.diff(level[middle, middle], axis=1)).mean() for level in levels]
    assert steps[1] < steps[0] + 12  # of 255; means of blocks alone leave more than twice as much


def test_random_weights_and_sources_are_named(results, body, tmp_path):
    section = describe_maps(results, tmp_path, tmp_path / "report.html")
    assert section.random == ("narrow",)
    assert body.count("RANDOM WEIGHTS") >= 5  # under the map, in each table, in its source
    for text in (
        "SHA-256 " + "a" * 64,
        "b" * 64,
        "python -m erf.visualize --model wide",
        "torn.jpg: unreadable: cut off",
    ):
        assert text in body


def test_the_curves_are_the_figures_and_are_read_off(results, body):
    curves = re.findall(r'<g id="receptive-fields-mass-\d">\n?<path d="([^"]+)"[^>]*style="([^"]+)"', body)
    ends = [[float(number) for number in points.split()[-2:]] for points, _ in curves]
    height = float(re.search(r'id="curves" data-height="([^"]+)"', body)[1])
    bottom = float(re.search(r'-share-line">\n?<path d="M \S+ (\S+) ', body)[1]) + 0.5 * height
    for (_, y), result in zip(ends, results, strict=True):
        assert y == pytest.approx(bottom - height * result.measured.mass_curve.estimate[-1], abs=0.02)
    assert ["stroke-dasharray" in style for _, style in curves] == [False, True, False]
    assert len(re.findall(r'id="receptive-fields-mass-\d-band"', body)) == 3
    (said,) = re.findall(r'<g id="receptive-fields-side-33"><title>(.*?)</title>', body, flags=re.DOTALL)
    values = [f"{result.measured.mass_curve.estimate[16]:.1%}" for result in results]
    assert said.splitlines()[0] == "square of 33 px"
    assert [line.rpartition(" ")[2] for line in said.splitlines()[1:]] == values
    (said,) = re.findall(r'<g id="receptive-fields-radius-0"><title>(.*?)</title>', body, flags=re.DOTALL)
    assert f": {results[0].measured.radial_profile.estimate[0]:.3g} times an even map" in said


def test_curves_of_many_results_stand_in_one_pair_of_panels(results, tmp_path):
    many = [replace(results[index % 3], name=f"net{index}") for index in range(9)]  # draw_curves would make two pairs
    body = describe_maps(many, tmp_path, tmp_path / "report.html").body
    assert len(re.findall(r'id="receptive-fields-mass-\d"', body)) == 9


def test_a_folder_is_read_without_unfinished_results(results, tmp_path):
    for result in results[:2]:
        save_result(result, tmp_path / f"{result.name}.npz")
    (tmp_path / "other.partial.npz").write_bytes(b"unfinished")
    assert [result.name for result in read_folder(tmp_path)] == ["narrow", "wide"]
    comparison = {"models": [{"name": "wide"}, {"name": "gone"}, {"name": "narrow"}]}
    (tmp_path / "comparison.json").write_text(json.dumps(comparison), encoding="utf-8")
    assert [result.name for result in read_folder(tmp_path)] == ["wide", "narrow"]  # as they were asked for
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"torn\.npz is not a result"):
        read_folder(tmp_path)
    assert read_folder(tmp_path / "nowhere") == []


def test_the_command_writes_a_report_with_links(results, tmp_path, caplog):
    saved = tmp_path / "wide.npz"
    save_result(results[0], saved)
    assert main(["--from-npz", str(saved), "--output", str(tmp_path), "--report"]) == 0
    page = (tmp_path / "erf" / "report.html").read_text(encoding="utf-8")
    assert 'href="wide.json"' in page
    assert 'href="wide.png"' in page
    assert "python -m erf.visualize --from-npz" in page
    assert "RANDOM" not in page.partition("<script>")[0]
    assert "report.html" in caplog.text

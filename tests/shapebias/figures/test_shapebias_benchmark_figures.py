"""The benchmark's pictures and its section of the page agree with its file."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from htmlreport import main as write_report
from runkit import UserError
from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH
from shapebias.benchmark import main
from shapebias.figures.benchmark import draw_benchmark, draw_scatter
from shapebias.figures.benchmark_conditions import draw_conditions
from shapebias.figures.benchmark_files import benchmark_pictures
from shapebias.figures.benchmark_matrices import draw_confusion, draw_matrices
from shapebias.figures.benchmark_page import describe_benchmark
from shapebias.figures.caption import caption_benchmark
from shapebias.results.benchmark import read_benchmark
from shapebias.results.benchmark_tables import PICTURE_ENDS, picture_files, read_published


@pytest.fixture(scope="module")
def output(tmp_path_factory, raw_folder, write_answers) -> Path:
    """A benchmark of three networks, one of them untrained and one without all datasets, with every picture."""
    folder = tmp_path_factory.mktemp("benchmark")
    raw = Path(shutil.copytree(raw_folder, folder / "raw"))
    for dataset in ("edge", "rotation"):
        write_answers(raw, dataset, "new-random-weights", 0.1)
    write_answers(raw, "edge", "edges_only", 0.6)
    arguments = [str(raw), "--output", str(folder), "--resamples", "100", "--pictures", "all", "--report", "-q"]
    assert main(arguments) == 0
    return folder / "shapebias"


@pytest.fixture(scope="module")
def content(output):
    return read_benchmark(output / "benchmark.json")


def find(figure, gid: str):
    (found,) = figure.findobj(lambda artist: artist.get_gid() == gid)
    return found


def test_every_picture_is_written_in_both_widths(output, content):
    assert tuple(benchmark_pictures(content, all_of_them=True)) == PICTURE_ENDS
    assert content["pictures"] == [path.name for path in picture_files(output / "benchmark") if path.suffix == ".png"]
    assert all((output / name).stat().st_size > 10_000 for name in content["pictures"])
    figures = {w: draw(width=w) for draw in benchmark_pictures(content).values() for w in (PAGE_WIDTH, COLUMN_WIDTH)}
    assert all(figure.get_figwidth() == width for width, figure in figures.items())


def test_a_caption_says_what_its_picture_shows(content):
    words = {end: caption_benchmark(content, end) for end in PICTURE_ENDS}
    assert all("95% intervals" in words[end] for end in ("", "-scatter"))
    assert not any("95% intervals" in text for end, text in words.items() if end not in ("", "-scatter"))
    total = len(content["datasets"])
    for end, draw in (("-accuracy", draw_conditions), ("-matrices", draw_matrices)):
        panels = [ax for ax in draw(content).axes if ax.get_title()]
        assert f"Shown: the {len(panels)} of {total} datasets" in words[end]
    assert "range of people" in words["-accuracy"]
    assert "range of people" not in words[""]
    assert "Dashed line: people." in words[""]
    assert "Dashed lines (expected): the consistency by chance of independent observers" in words["-scatter"]
    for end in ("-accuracy", "-error-consistency", "-entropy"):
        ax = draw_conditions(content, end.removeprefix("-").replace("-", "_")).axes[0]
        assert any("range" in str(band.get_gid()) for band in ax.collections) == ("Bands: range" in words[end])
        assert "rey background: conditions that do not count" in words[end]
        assert "otted line: " in words[end]
    bare = {**content, "config": {**content["config"], "intervals": False}}
    assert "95% intervals" not in caption_benchmark(bare)


def test_bars_have_values_intervals_and_people_as_a_line(content):
    figure = draw_benchmark(content, published=read_published())
    assert len(figure.axes) == 4
    for ax, measure in zip(
        figure.axes,
        ("ood_accuracy", "accuracy_difference", "observed_consistency", "error_consistency"),
        strict=True,
    ):
        bar = find(figure, f"observer-2-bar-{measure}")
        network = content["networks"]["good_net"]
        assert bar.get_width() == pytest.approx(network[measure])
        interval = find(figure, f"observer-2-interval-{measure}")
        assert list(interval.get_xdata()) == network[f"{measure}_interval"]
        assert find(figure, f"observer-people-bar-{measure}").get_width() == pytest.approx(content["people"][measure])
        assert bar.axes is ax
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names[0] == "people"
    printed = [f"{row['model']} (17 datasets)" for row in read_published()]
    assert names[4:] == ["edges_only (1 of 2)", *printed]  # without a rank, then printed
    weights = {text.get_text(): text.get_fontweight() for text in figure.axes[0].get_yticklabels()}
    assert weights["new (RANDOM WEIGHTS)"] == "bold"
    assert weights["good_net"] == "normal"
    assert len(draw_benchmark(content, published=read_published(), width=COLUMN_WIDTH).axes[0].get_yticklabels()) == 5


def test_scatter_plots_have_people_and_what_is_expected(content):
    figure = draw_scatter(content)
    assert len(figure.axes) == 6
    point = find(figure, "observer-people-ood_accuracy-error_consistency-point")
    people = content["people"]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (people["ood_accuracy"], people["error_consistency"])
    (line,) = [line for line in figure.axes[1].lines if len(line.get_xdata()) == 50]
    x, y = line.get_data()
    np.testing.assert_allclose(y, x * people["ood_accuracy"] + (1 - x) * (1 - people["ood_accuracy"]))


def test_lines_over_conditions(content):
    for measure in ("accuracy", "error_consistency", "entropy"):
        figure = draw_conditions(content, measure)
        (ax,) = figure.axes
        line = find(figure, "observer-2-rotation")
        expected = content["datasets"]["rotation"]["curves"][measure]["networks"]["good_net"]
        np.testing.assert_array_equal(line.get_ydata(), expected)
        assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "90", "180", "270"]
        band = find(figure, "observer-people-rotation-range").get_paths()[0].vertices[:, 1]
        persons = np.array(list(content["datasets"]["rotation"]["curves"][measure]["persons"].values()))
        assert (band.min(), band.max()) == pytest.approx((persons.min(), persons.max()))
        grounds = [patch for patch in ax.patches if patch.get_width() == 1]
        assert len(grounds) == 1  # the control does not count
    assert draw_conditions(content, "accuracy").axes[0].get_ylim() == (0, 1)


def test_matrices_are_ordered_by_rank_and_share_their_colours(content):
    figure = draw_matrices(content)
    ax = figure.axes[0]
    names = [text.get_text() for text in ax.get_yticklabels()]
    ranked = sorted(
        ("good_net", "bad_net", "new-random-weights"), key=lambda name: content["networks"][name]["mean_rank"]
    )
    labels = [content["networks"][name]["label"] for name in ranked]
    assert names == [*labels, "edges_only", "subject-01", "subject-02", "subject-03"]
    (image,) = ax.images
    values = np.asarray(image.get_array().filled(np.nan))
    assert np.isnan(np.diag(values)).all()
    matrix = content["datasets"]["edge"]["matrix"]
    at = matrix["observers"].index
    expected = matrix["error_consistency"][at("good_net")][at("subject-02")]
    assert values[names.index("good_net"), names.index("subject-02")] == expected
    low, high = image.get_clim()
    assert low == -high


def test_confusion_is_percent_of_a_category(content):
    figure = draw_confusion(content)
    panels = [ax for ax in figure.axes if ax.images and ax.images[0].get_array().shape == (17, 16)]
    assert panels[0].get_title() == "people"
    assert len(panels) == 5
    for ax in panels:
        np.testing.assert_allclose(ax.images[0].get_array().sum(axis=0), 100)
    alone = draw_confusion(content, observers=["good_net"], datasets=["edge"])
    counts = np.array(content["datasets"]["edge"]["confusion"]["networks"]["good_net"])
    np.testing.assert_allclose(alone.axes[0].images[0].get_array(), 100 * counts / counts.sum(axis=0))


def test_what_cannot_be_drawn(content):
    edges = {**content, "datasets": {"edge": content["datasets"]["edge"]}}
    with pytest.raises(ValueError, match="no dataset has conditions"):
        draw_conditions(edges)
    rotation = {**content, "datasets": {"rotation": content["datasets"]["rotation"]}}
    with pytest.raises(ValueError, match="every dataset has conditions"):
        draw_matrices(rotation)
    assert "-matrices" not in benchmark_pictures(rotation, all_of_them=True)
    assert "-accuracy" not in benchmark_pictures(edges, all_of_them=True)


def test_the_page_says_what_the_file_says(output, content):
    page = (output / "benchmark-report.html").read_text(encoding="utf-8")
    network = content["networks"]["good_net"]
    low, high = network["ood_accuracy_interval"]
    assert f"good_net\nOOD accuracy {network['ood_accuracy']:.3f} [{low:.3f}, {high:.3f}]" in page
    value = content["datasets"]["rotation"]["curves"]["accuracy"]["networks"]["good_net"][1]
    assert f"good_net\nRotation, 90: {value:.3f}" in page
    assert "not comparable with published tables" in page
    assert "RANDOM WEIGHTS" in page
    assert page.count('data-observers="benchmark-bars benchmark-scatter benchmark-accuracy') == 1
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for row in content["raw_data"]:
        assert row["sha256"] in page


def test_the_report_of_a_folder_has_the_benchmark(output, tmp_path):
    assert write_report([str(output.parent), "--output", str(tmp_path / "all.html")]) == 0
    assert "Networks against people" in (tmp_path / "all.html").read_text(encoding="utf-8")


def test_a_file_that_is_no_benchmark_is_refused(output, tmp_path):
    broken = json.loads((output / "benchmark.json").read_text(encoding="utf-8"))
    del broken["people"]
    (tmp_path / "benchmark.json").write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(UserError, match=r"is not a result of shapebias\.benchmark: it has no 'people'"):
        describe_benchmark(tmp_path / "benchmark.json", tmp_path / "page.html")


def test_without_intervals_and_networks_there_are_pictures_still(raw_folder, tmp_path):
    (tmp_path / "raw" / "edge").mkdir(parents=True)
    for path in (raw_folder / "edge").glob("*subject*"):
        shutil.copy(path, tmp_path / "raw" / "edge")
    arguments = [str(tmp_path / "raw"), "--output", str(tmp_path), "--no-intervals", "--pictures", "all", "--report"]
    assert main(arguments) == 0
    alone = read_benchmark(tmp_path / "shapebias" / "benchmark.json")
    assert "benchmark.png" in alone["pictures"]
    assert "benchmark-scatter.png" not in alone["pictures"]


@pytest.mark.parametrize("width", [PAGE_WIDTH, COLUMN_WIDTH])
@pytest.mark.parametrize("count", [20, 45])
def test_names_beside_a_matrix_do_not_overlap(content, width, count):
    observers = ["good_net", *(f"subject-{number:02}" for number in range(1, count))]
    one, other = ({**content["datasets"]["edge"], "title": title} for title in ("Edges", "Silhouettes"))
    values = np.full((count, count), 0.3).tolist()
    for dataset in (one, other):
        dataset["matrix"] = {"observers": observers, "error_consistency": values}
    figure = draw_matrices({**content, "datasets": {"edge": one, "silhouette": other}}, width=width)
    figure.canvas.draw()
    for ax in figure.axes[:2]:
        boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert len(boxes) == count
        assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
        assert min(box.x0 for box in boxes) >= 0

"""The section of a report on shape bias agrees with the comparison."""

import json
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from htmlreport.relation import Correlation
from htmlreport.relation_page import describe_relation
from runkit import UserError, describe_run, save_json
from shapebias.answers.observers import write_raw_data
from shapebias.figures.observers import order_categories
from shapebias.figures.page import describe_answers, find_folders, title_of
from shapebias.measures.shape_bias import Measurement
from shapebias.results.comparison import comparison_path, read_comparison
from shapebias.results.files import ResultFolder
from shapebias.run import main
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS
from shapebias.stimuli.images import Stimulus, parse_image_name


def write_answers(folder: Path, names: list[str], answers: dict[str, float]) -> Path:
    """Write CSVs of observers that decide by shape for about this share of the images, otherwise by texture."""
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in names]
    for observer, share in answers.items():
        said = [item.shape if (index * 37) % 100 < 100 * share else item.texture for index, item in enumerate(stimuli)]
        write_raw_data(folder / f"{observer}.csv", observer, stimuli, said)
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory, names):
    """A results folder with two networks, one of them untrained, and two people, with its report."""
    folder = tmp_path_factory.mktemp("answers")
    shares = {"net": 0.25, "other-random-weights": 0.5, "subject-01": 0.95, "subject-02": 0.9}
    csv = write_answers(folder / "csv", names, shares)
    assert main(["--from-csv", str(csv), "--output", str(folder), "--report"]) == 0
    return folder


@pytest.fixture(scope="module")
def page(output):
    return (output / "shapebias" / "report.html").read_text(encoding="utf-8")


def test_the_comparison_is_read_as_it_was_written(output):
    (folder,) = find_folders(output)
    path = comparison_path(folder)
    comparison = read_comparison(path)
    written = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [row.as_dict() for row in [*comparison.series, *comparison.persons]] == written["observers"]
    assert [difference.as_dict() for difference in comparison.differences] == written["differences"]["pairs"]
    assert comparison.with_people("net") == written["error_consistency"]["with_people"]["net"]


def test_every_point_of_the_plot_says_its_value(output, page):
    comparison = read_comparison(output / "shapebias" / "shape-bias.json")
    points = re.findall(r'<use [^>]*x="([^"]+)" y="([^"]+)"[^>]*><title>([^<]+)</title>', page)
    assert len(points) == 3 * 16
    order = order_categories(comparison.series)
    net = comparison.of("net")
    said = {text: (float(x), float(y)) for x, y, text in points if text.startswith("net\n")}
    places = []
    for category, estimates in net.categories.items():
        value = estimates["shape_bias"].value
        (place,) = [at for text, at in said.items() if text.startswith(f"net\n{category}: shape bias {value:.3f} [")]
        places.append((1 - value, order.index(category), *place))
    across, up, x, y = np.array(places).T
    for value, place in ((across, x), (up, y)):  # places are values in another unit
        slope, start = np.polyfit(value, place, 1)
        np.testing.assert_allclose(start + slope * value, place, atol=0.02)
    assert np.polyfit(across, x, 1)[0] > 100
    assert np.polyfit(up, y, 1)[0] < -10


def test_tables_and_bars_hold_the_measures(output, page):
    comparison = read_comparison(output / "shapebias" / "shape-bias.json")
    for measurement in comparison.series:
        assert isinstance(measurement, Measurement)
        bias = measurement.shape_bias
        interval = f"[{bias.low:.3f}, {bias.high:.3f}]"
        assert f'data-value="{bias.value}">{bias.value:.3f} <span class="note">{interval}</span>' in page
        assert page.count(f"all categories: shape bias {bias.value:.3f} {interval}</title>") == 2  # line and bar
    assert '<th scope="col">shape MRR</th>' not in page  # recorded answers have no ranks
    persons = re.search(r'-observer-people-persons-shape_bias">.*?</g>\n?</g>', page, flags=re.DOTALL)[0]
    assert persons.count("<use ") == 2  # a tick per person


def test_random_weights_and_data_are_named(output, page):
    banner = page[page.index("<main") : page.index("<h2")]
    assert re.sub(r"<[^>]+>|\s+", " ", banner).split()[:3] == ["RANDOM", "WEIGHTS", "other:"]
    content = json.loads((output / "shapebias" / "shape-bias.json").read_text(encoding="utf-8"))
    assert len(content["raw_data"]) == 4
    for entry in content["raw_data"]:
        assert entry["sha256"] in page
    assert 'href="net.json"' in page
    assert 'href="shape-bias.png"' in page


def test_images_with_one_cue_have_a_section_of_accuracy(data_dir, tmp_path):
    people = str(data_dir / "human" / "edge")
    assert main(["--from-csv", people, "--experiment", "edge", "--output", str(tmp_path), "--report"]) == 0
    page = (tmp_path / "shapebias" / "edge" / "report.html").read_text(encoding="utf-8")
    assert '<h2 id="edge-title">Edge drawings</h2>' in page
    assert "people (n = 10)\ncat: accuracy " in page
    assert "texture" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)


def test_a_folder_without_a_comparison(tmp_path):
    assert find_folders(tmp_path) == []
    folder = ResultFolder.of(tmp_path, CUE_CONFLICT)
    with pytest.raises(UserError, match="cannot read"):
        describe_answers(folder, tmp_path / "report.html")
    folder.root.mkdir()
    comparison_path(folder).write_text('{"results": {}}', encoding="utf-8")
    with pytest.raises(UserError, match=r"not a comparison of shapebias\.run: it has no 'observers'"):
        describe_answers(folder, tmp_path / "report.html")


def test_the_relation_has_a_section(tmp_path):
    network = {"random": False, "field_interval": [0.1, 0.3], "shape_bias": 0.25, "shape_bias_interval": [0.2, 0.3]}
    networks = [
        {"name": name, "label": name, "field": field, **network} for name, field in {"a": 0.2, "b": 0.1}.items()
    ]
    networks[1] |= {"random": True, "label": "b, RANDOM WEIGHTS (seed 0)", "field_interval": None}
    started = datetime(2026, 1, 2, tzinfo=timezone.utc)
    content = {
        **describe_run(program="shapebias.relate", arguments=["--erf", "x"], started=started, seconds=1),
        "unpaired": {"c": "no shape bias of these weights"},
        "results": {
            "field": "area ratio",
            "networks": networks,
            "correlation": Correlation(networks=1).as_dict(),
            "people": {"shape_bias": 0.96, "shape_bias_interval": [0.94, 0.97]},
        },
    }
    path = tmp_path / "relation.json"
    save_json(path, content)
    section = describe_relation(path, tmp_path / "report.html")
    assert section.random == ("b",)
    for text in (
        "a\narea ratio 0.200 [0.100, 0.300]\nshape bias 0.250 [0.200, 0.300]",
        "people: shape bias 0.960 [0.940, 0.970]",
        "no rank correlation: 1 trained network",
        "c: no shape bias of these weights",
        '<strong class="badge">RANDOM WEIGHTS (seed 0)</strong>',
        'href="relation.json"',
    ):
        assert text in section.body
    save_json(path, {"results": {}})
    with pytest.raises(UserError, match=r"relation\.json was not written by shapebias\.relate: it has no 'networks'"):
        describe_relation(path, tmp_path / "report.html")


def test_every_experiment_has_a_heading_of_its_own():
    titles = {name: title_of(experiment) for name, experiment in EXPERIMENTS.items()}
    assert len(set(titles.values())) == 17
    wanted = {"cue-conflict": "Shape bias", "edge": "Edge drawings", "silhouette": "Silhouettes"}
    assert wanted.items() <= titles.items()
    assert (titles["eidolonII"], titles["uniform-noise"]) == ("Eidolon II", "Uniform noise")

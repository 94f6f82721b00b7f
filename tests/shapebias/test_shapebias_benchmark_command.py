"""The benchmark's command line: files, tables, and what is left out or refused."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from support import ROOT

from runkit.fetch.manifest import KnownFile
from shapebias.answers import datasets
from shapebias.benchmark import build_parser, main
from shapebias.results.benchmark import read_benchmark
from shapebias.results.benchmark_content import benchmark_schema
from shapebias.results.benchmark_tables import benchmark_files, read_published
from shapebias.stimuli.experiments import EXPERIMENTS

SCHEMA = json.loads((ROOT / "shapebias" / "results" / "benchmark.schema.json").read_text(encoding="utf-8"))
QUICK = ["--resamples", "100"]
pytestmark = pytest.mark.usefixtures("no_pictures")  # pictures are drawn by figures/test_shapebias_benchmark_figures.py


def run(tmp_path: Path, *arguments: object) -> dict:
    assert main([*map(str, arguments), "--output", str(tmp_path / "out"), *QUICK]) == 0
    return json.loads((tmp_path / "out/shapebias/benchmark.json").read_text(encoding="utf-8"))


def test_files_and_what_they_say(raw_folder, tmp_path, capsys):
    content = run(tmp_path, raw_folder)
    stem = tmp_path / "out/shapebias/benchmark"
    assert all(path.exists() for path in benchmark_files(stem))
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    assert list(content["networks"]) == ["bad_net", "good_net"]
    good, bad = content["networks"]["good_net"], content["networks"]["bad_net"]
    assert good["ood_accuracy"] > bad["ood_accuracy"]
    assert (good["ood_accuracy_rank"], bad["ood_accuracy_rank"]) == (1, 2)
    low, high = good["ood_accuracy_interval"]
    assert low < good["ood_accuracy"] < high
    assert set(good["datasets"]) == set(content["datasets"]) == {"edge", "rotation"}
    assert good["datasets"]["edge"]["missing_trials"] == 0
    assert content["faults"][0] == "edge: there are answers to 16 of its 160 images"
    assert content["scope"] == (
        "2 of 17 datasets, edge, rotation not with the published images: not comparable with published tables"
    )
    assert content["comparable"] is False
    assert len(content["differences"]["pairs"]) == 4
    assert len(content["raw_data"]) == 10
    curves = content["datasets"]["rotation"]["curves"]
    assert content["datasets"]["edge"]["curves"] is None
    assert {len(row) for curve in curves.values() for row in curve["networks"].values()} == {4}
    assert list(curves["accuracy"]["persons"]) == ["subject-01", "subject-02", "subject-03"]
    mean = sum(row[1] for row in curves["accuracy"]["persons"].values()) / 3
    assert curves["accuracy"]["people"][1] == pytest.approx(mean)
    confusion = content["datasets"]["edge"]["confusion"]
    assert sum(map(sum, confusion["people"])) == 3 * 16
    matrix = content["datasets"]["edge"]["matrix"]
    assert matrix["observers"] == ["bad_net", "good_net", "subject-01", "subject-02", "subject-03"]
    printed = capsys.readouterr().out
    assert "not comparable with published tables" in printed
    assert printed.index("good_net") < printed.index("bad_net")
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("OOD accuracy ")]
    assert row[2:8] == ["1", "of", "1", "1", "of", "1"]
    with (stem.parent / "benchmark.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["people", "good_net", "bad_net"]
    assert float(rows[1]["ood_accuracy"]) == good["ood_accuracy"]
    assert float(rows[1]["ood_accuracy_low"]) == low
    with (stem.parent / "benchmark-conditions.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 * (2 + 1 + 3)
    with (stem.parent / "benchmark-datasets.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2 * 3
    assert r"good\_net" in (stem.parent / "benchmark.tex").read_text(encoding="utf-8")


def test_the_schema_is_that_of_the_types():
    """If this fails, run `python scripts/schemas.py` to write it again."""
    assert benchmark_schema() == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_without_intervals(raw_folder, tmp_path, capsys, caplog):
    content = run(tmp_path, raw_folder, "--no-intervals", "--experiment", "edge")
    assert "--resamples and --seed have no effect beside --no-intervals" in caplog.text
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    assert content["interval"] is None
    assert list(content["datasets"]) == ["edge"]
    network = content["networks"]["good_net"]
    assert network["ood_accuracy_interval"] is None
    assert network["ood_accuracy_rank"] == 1
    assert content["differences"]["pairs"] == []
    assert "[" not in capsys.readouterr().out


@pytest.mark.parametrize("damaged", [False, True])
def test_pictures_and_page_of_an_older_benchmark_go(raw_folder, tmp_path, damaged):
    """This does not depend on its file, which may be damaged or name files of other tools."""
    folder = tmp_path / "out/shapebias"
    older = run(tmp_path, raw_folder, "--report", "--pictures", "all", "--formats", "png", "pdf")
    ours = {*older["pictures"], "benchmark-report.html"}
    assert len(ours) == 29
    assert ours <= {path.name for path in folder.iterdir()}
    others = {"mine.png", "benchmark-mine.png", "benchmark.gif", "shape-bias.png"}
    for name in others:
        (folder / name).write_bytes(b"")
    older["pictures"] += sorted(others)
    (folder / "benchmark.json").write_text("{" if damaged else json.dumps(older), encoding="utf-8")
    run(tmp_path, raw_folder, "--pictures", "none")
    left = {path.name for path in folder.iterdir()}
    assert others <= left
    assert not left & ours


def test_folders_apart_and_a_network_without_all_datasets(raw_folder, tmp_path, write_answers, capsys):
    for dataset in ("edge", "rotation"):
        for path in (raw_folder / dataset).iterdir():
            kind = "human" if "subject" in path.name else "networks"
            (tmp_path / kind / dataset).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / kind / dataset)
    write_answers(tmp_path / "networks", "edge", "part-of_it", 0.6)
    content = run(tmp_path, tmp_path / "networks", tmp_path / "human")
    network = content["networks"]["part-of_it"]
    assert list(network["datasets"]) == ["edge"]
    assert network["ood_accuracy"] == network["datasets"]["edge"]["ood_accuracy"]
    assert network["mean_rank"] is None
    assert {row["first"] for row in content["differences"]["pairs"]} == {"bad_net"}
    printed = capsys.readouterr().out.splitlines()
    assert next(line for line in printed if "part-of_it" in line).startswith("part-of_it (1 of 2 datasets) ")
    without = run(tmp_path, raw_folder)
    assert without["networks"]["good_net"] == content["networks"]["good_net"]


def test_names_are_the_same_with_hyphens(raw_folder, tmp_path, write_answers):
    folder = Path(shutil.copytree(raw_folder, tmp_path / "raw"))
    write_answers(folder, "edge", "my_net", 0.6)
    write_answers(folder, "rotation", "my-net", 0.6)
    content = run(tmp_path, folder)
    assert list(content["networks"]["my_net"]["datasets"]) == ["edge", "rotation"]
    assert "my-net" not in content["networks"]


def test_random_weights_are_named(raw_folder, tmp_path, write_answers, capsys):
    folder = Path(shutil.copytree(raw_folder, tmp_path / "raw"))
    for dataset in ("edge", "rotation"):
        write_answers(folder, dataset, "net-random-weights", 0.1)
    content = run(tmp_path, folder)
    network = content["networks"]["net-random-weights"]
    assert (network["random"], network["label"]) == (True, "net (RANDOM WEIGHTS)")
    assert "net (RANDOM WEIGHTS)" in capsys.readouterr().out


def test_summary_for_scripts(raw_folder, tmp_path, capsys):
    assert main([str(raw_folder), "--output", str(tmp_path), "--json", *QUICK]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["program"] == "shapebias.benchmark"
    assert [row["name"] for row in summary["networks"]] == ["people", "good_net", "bad_net"]
    assert all(Path(path).exists() for path in summary["files"])
    pairs = read_benchmark(tmp_path / "shapebias/benchmark.json")["differences"]["pairs"]
    assert summary["significant"] == [
        {
            "measure": pair["measure"],
            "pairs": 1,
            "significant": int(pair["p_holm"] < 0.05),
            "significant_persons": int(pair["p_holm_persons"] < 0.05),
            "half_interval": (pair["high"] - pair["low"]) / 2,
        }
        for pair in pairs
    ]
    assert {row["significant"] for row in summary["significant"]} == {0, 1}


def test_what_is_refused_ends_with_2_and_one_line(raw_folder, tmp_path, write_answers, capsys, no_network):
    def fails(message: str, *arguments: object) -> None:
        assert main([*map(str, arguments), "--output", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert len([line for line in captured.err.splitlines() if "error" in line]) == 1
        assert captured.out == ""
        assert not (tmp_path / "out").exists()

    fails("no folder", tmp_path / "nowhere")
    write_answers(tmp_path / "alone", "edge", "net", 0.5)
    fails("name a folder that holds edge/*.csv of people (subj subject-*)", tmp_path / "alone")
    fails("cannot download", raw_folder, "--with-published")
    fails("no network has answers to edge", people_alone(raw_folder, tmp_path), "--experiment", "edge")
    path = write_answers(tmp_path / "few", "rotation", "subject-01", 0.5)
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:20]), encoding="utf-8")
    fails("rotation: no trial in the conditions 180, 270", tmp_path / "few")
    with pytest.raises(SystemExit, match="2"):
        main([str(raw_folder), "--resamples", "5"])


def people_alone(raw_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "people" / "edge").mkdir(parents=True)
    for path in (raw_folder / "edge").glob("*subject*"):
        shutil.copy(path, tmp_path / "people" / "edge")
    return tmp_path / "people"


def test_the_same_bytes_in_two_datasets_are_a_fault(raw_folder, tmp_path, caplog):
    """Edge drawings and silhouettes have the same image names, so that only their content shows a mix-up."""
    folder = Path(shutil.copytree(raw_folder, tmp_path / "raw"))
    for path in (folder / "edge").iterdir():
        path.write_text(re.sub(r",0001_x_\w+_00_", ",", path.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "silhouette").mkdir()
    for path in (folder / "edge").glob("*subject*"):
        people = path.read_text(encoding="utf-8").replace(",0.5,", ",0.6,")  # not the same bytes
        (folder / "silhouette" / path.name.replace("edge", "silhouette")).write_text(people, encoding="utf-8")
    copies = [folder / name / "mynet.csv" for name in ("edge", "silhouette")]
    for copy in copies:
        shutil.copy(next((folder / "edge").glob("*good-net*")), copy)
    next((folder / "edge").glob("*good-net*")).unlink()
    (fault,) = [text for text in run(tmp_path, folder, "--no-intervals")["faults"] if "byte for byte" in text]
    assert fault == (
        f"the same answers, byte for byte, are given to edge ({copies[0]}) and silhouette ({copies[1]}): they can be "
        "to one of them only"
    )
    assert fault in caplog.messages


def test_people_alone_are_measured_and_it_is_said(raw_folder, tmp_path, caplog):
    content = run(tmp_path, people_alone(raw_folder, tmp_path))
    assert content["faults"][-1].startswith("there are answers of people only, none of a network: the numbers are")
    assert content["faults"][-1] in caplog.messages
    assert content["networks"] == {}
    assert content["people"]["error_consistency"] is not None


def test_published_networks_and_the_printed_table(raw_folder, tmp_path, write_answers, web, monkeypatch, capsys):
    """The toolbox's networks come from a server; the user's own network of the same name takes precedence."""
    source, known = tmp_path / "source", {"networks": {}, "people": {}}
    for name in EXPERIMENTS:
        for section, subjects in (("networks", ["toolbox_net", "good_net"]), ("people", ["subject-01", "subject-02"])):
            for subject in subjects:
                path = write_answers(source, name, subject, 0.7, seed=1)
                content = path.read_bytes()
                web.files[f"/{path.name}"] = content
                sha256 = hashlib.sha256(content).hexdigest()
                known[section][path.name] = KnownFile(path.name, "test", sha256, len(content), web.url(f"/{path.name}"))
    monkeypatch.setattr(datasets, "known_files", lambda section: known[section])
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    content = run(tmp_path, raw_folder, "--with-published", "--no-intervals")
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    assert len(content["datasets"]) == 17
    assert list(content["networks"]["toolbox_net"]["datasets"]) == list(EXPERIMENTS)
    files = {row["sha256"] for row in content["raw_data"] if (row["dataset"], row["subject"]) == ("edge", "good_net")}
    assert files == {hashlib.sha256((raw_folder / "edge/edge_good-net_session-1.csv").read_bytes()).hexdigest()}
    assert [row["model"] for row in content["published"]] == [row["model"] for row in read_published()]
    assert "CLIP: ViT-B (400M), printed  " in capsys.readouterr().out
    run(tmp_path, raw_folder, "--with-published", "--no-intervals", "--experiment", "edge")
    assert "CLIP: ViT-B (400M), printed for 17 datasets  " in capsys.readouterr().out
    latex = (tmp_path / "out/shapebias/benchmark.tex").read_text(encoding="utf-8")
    assert latex.count(r"\rowcolor[gray]{0.9}") == 14
    assert "usepackage{booktabs,colortbl}" in latex


@pytest.mark.data
def test_the_printed_table_is_as_printed(data_dir):
    with (data_dir / "networks" / "published_table.csv").open(encoding="utf-8") as file:
        printed = [row for row in csv.DictReader(file) if "README.md @ d034d03" in row["source"]]
    expected: dict[str, dict[str, float]] = {}
    for row in printed:
        for theirs, ours in (
            ("OOD_accuracy", "ood_accuracy"),
            ("accuracy_difference", "accuracy_difference"),
            ("observed_consistency", "observed_consistency"),
            ("error_consistency", "error_consistency"),
        ):
            if row[theirs]:
                expected.setdefault(row["model"], {})[ours] = float(row[theirs])
    found = {
        row["model"]: {key: value for key, value in row.items() if key not in ("model", "source") and value is not None}
        for row in read_published()
    }
    assert found == expected


@pytest.mark.data
def test_the_nine_networks_beside_the_toolbox(data_dir, tmp_path):
    """Ranks and numbers, from the file; memory and time have their own test."""
    main([str(data_dir / "networks"), str(data_dir / "human"), "--output", str(tmp_path), "--no-intervals", "-q"])
    content = read_benchmark(tmp_path / "shapebias/benchmark.json")
    toolbox = json.loads((data_dir / "networks" / "benchmark.json").read_text(encoding="utf-8"))["content"]
    keys = {
        "ood_accuracy": "OOD accuracy",
        "accuracy_difference": "accuracy difference",
        "observed_consistency": "observed consistency",
        "error_consistency": "error consistency",
    }
    ranks = {
        "ood_accuracy_rank": "OOD rank",
        "accuracy_difference_rank": "acc rank",
        "observed_consistency_rank": "obs rank",
        "error_consistency_rank": "err rank",
        "mean_rank": "mean rank",
    }
    assert (content["scope"], content["comparable"], content["faults"]) == ("17 of 17 datasets", True, [])
    for name, network in content["networks"].items():
        for ours, theirs in keys.items():
            assert network[ours] == pytest.approx(toolbox["table"][name][theirs], abs=1e-12)
        for ours, theirs in ranks.items():
            assert network[ours] == pytest.approx(toolbox["ranks_nine_models"][name][theirs], abs=1e-12)
    for ours, theirs in keys.items():
        assert content["people"][ours] == pytest.approx(toolbox["table"]["humans"][theirs], abs=1e-12)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux")
@pytest.mark.timing
@pytest.mark.data
def test_it_is_quick_and_needs_little_memory(data_dir, tmp_path):
    """Measures processor time, which other programs hardly influence; the limit of 60 s on two cores is generous."""
    code = (
        "import sys, time; from shapebias.benchmark import main; code = main(sys.argv[1:]);"
        "lines = open('/proc/self/status').read().splitlines();"
        "print(time.process_time(), next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )
    folders = [str(data_dir / "networks"), str(data_dir / "human"), "--output", str(tmp_path), "-q"]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.splitlines()[-1].split())
    assert seconds < 60
    assert kilobytes < 1e6


def test_help_names_every_dataset():
    text = build_parser().format_help()
    assert all(name in text.replace("\n", " ") for name in ("cue-conflict", "eidolonIII", "uniform-noise"))


@pytest.mark.parametrize(("pictures", "absent"), [("main", ["torch"]), ("none", ["torch", "pandas", "matplotlib"])])
def test_what_is_not_loaded(raw_folder, tmp_path, pictures, absent):
    code = (
        "import sys; from shapebias.benchmark import main; code = main(sys.argv[1:]);"
        f"assert not {set(absent)!r} & set(sys.modules); sys.exit(code)"
    )
    arguments = [str(raw_folder), "--output", str(tmp_path), "--no-intervals", "-q", "--pictures", pictures]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_datasets_that_no_network_has_are_named(raw_folder, tmp_path, write_answers, caplog):
    folder = Path(shutil.copytree(raw_folder, tmp_path / "raw"))
    write_answers(folder, "silhouette", "subject-01", 0.8)
    assert list(run(tmp_path, folder)["datasets"]) == ["edge", "rotation"]
    assert "left out, since no network has answers: silhouette" in caplog.messages


def test_what_is_there_is_checked_before_people_are_downloaded(raw_folder, tmp_path, capsys, web, monkeypatch):
    """There are no answers of networks to sketches, so that people's answers would be useless."""
    known = KnownFile("sketch_subject-01_session_1.csv", "test", "0" * 64, 1, web.url("/people"))
    monkeypatch.setattr(datasets, "known_files", lambda section: {known.name: known})
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    for asked in (["sketch"], ["edge", "sketch"]):
        assert main([str(raw_folder), "--experiment", *asked, "--output", str(tmp_path / "out")]) == 2
        assert "no network has answers to sketch; --experiment names datasets that one has" in capsys.readouterr().err
    assert web.requests == []

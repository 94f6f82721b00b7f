"""Answers to the 17 datasets: the published files, every way in which they differ, and faulty files."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from runkit import UserError, sha256_of_file
from runkit.fetch.manifest import KnownFile, known_files, verify_file
from shapebias.answers import datasets
from shapebias.answers.datasets import MISSING, fetch_answers, read_answers, warn_of_faults
from shapebias.answers.observers import read_observers
from shapebias.answers.raw_data import COLUMNS, image_id, read_raw_data
from shapebias.answers.raw_folders import list_raw_data
from shapebias.results.benchmark import describe_sources
from shapebias.results.files import describe_raw_data
from shapebias.stimuli.experiments import EXPERIMENTS, parse_condition

ROTATION, EDGE = EXPERIMENTS["rotation"], EXPERIMENTS["edge"]


@pytest.fixture
def write(tmp_path):
    """Write a raw-data CSV: `write("net", ["cat", ...], images=..., condition=...)` returns its path."""

    def build(
        subject: str,
        answers: list[str],
        *,
        images: list[str] | None = None,
        categories: list[str] | None = None,
        condition: str = "0",
        header: str = ",".join(COLUMNS),
        name: str | None = None,
        time: str | None = None,
    ) -> Path:
        time = time or ("0.5" if subject.startswith("subject-") else "NaN")
        images = images or [f"{i:04}_rot_dnn_0_cat_20_n0_{i}.png" for i in range(len(answers))]
        rows = zip(answers, categories or ["cat"] * len(answers), images, strict=True)
        lines = [
            f"{subject},1,{i},{time},{answer},{category},{condition},{image}"
            for i, (answer, category, image) in enumerate(rows)
        ]
        path = tmp_path / f"{name or subject}.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return build


@pytest.mark.parametrize(
    ("trial", "image"),
    [
        ("0001_cl_s01_cr_oven_40_n04111531_14126.png", "n04111531_14126.png"),
        ("0001_ske_s01_0_boat_00_boat-0068-sketch-23.png", "boat-0068-sketch-23.png"),
        (
            "0001_sty_s01_0_bicycle_00_bicycle-0011-ILSVRC2012-val-00011821.png",
            "bicycle-0011-ILSVRC2012-val-00011821.png",
        ),
        ("0001_sif_s01_0_boat_00_boat5.png", "boat5.png"),
        ("airplane1-bicycle2.png", "airplane1-bicycle2.png"),
        ("n04111531_14126.png", "n04111531_14126.png"),
    ],
)
def test_an_image_is_named_by_the_end_of_its_trial(trial, image):
    assert image_id(trial) == image


@pytest.mark.parametrize(
    ("text", "token"),
    [("0.90", "0.9"), ("0.00", "0"), ("3", "3"), ("3.0", "3"), ("true", "true"), ("False", "false"), ("inf", "inf")],
)
def test_conditions_match_after_parsing(text, token):
    assert parse_condition(text) == token


def test_conditions_of_an_experiment():
    noise = EXPERIMENTS["uniform-noise"]
    assert [noise.find_condition(text) for text in ("0.00", "0.03", ".1", "0.90")] == [0, 1, 3, 7]
    assert [EXPERIMENTS["false-colour"].find_condition(text) for text in ("True", "false")] == [0, 1]
    assert EDGE.find_condition("NaN") == EDGE.find_condition("0") == EDGE.find_condition("") == 0
    with pytest.raises(ValueError, match=r"unknown condition '0\.5'; uniform-noise has 0, 0\.03, 0\.05"):
        noise.find_condition("0.5")
    with pytest.raises(ValueError, match=r"condition '90', but edge has no conditions"):
        EDGE.find_condition("90")


def test_experiments_say_what_the_benchmark_consists_of():
    assert len(EXPERIMENTS) == 17
    assert sum(experiment.people for experiment in EXPERIMENTS.values()) == 90
    assert sum(experiment.images * experiment.people for experiment in EXPERIMENTS.values()) == 85_120
    kept = {name: [e.conditions[i].token for i in e.kept] for name, e in EXPERIMENTS.items() if e.conditions}
    assert kept["low-pass"] == ["1", "3", "5", "7", "10"]
    assert kept["contrast"] == ["c50", "c30", "c15", "c10", "c05"]
    assert kept["eidolonIII"] == ["2-0-10", "4-0-10", "8-0-10"]
    assert (sum(map(len, kept.values())), len(kept)) == (41, 12)
    assert EDGE.kept == (0,)
    assert not any(e.conditions[0].kept for e in EXPERIMENTS.values() if e.conditions)  # the undistorted control
    assert all(experiment.source and experiment.licence for experiment in EXPERIMENTS.values())


def test_the_manifest_knows_every_dataset():
    for section, count in (("stimuli", 17), ("people", 90), ("networks", 153)):
        assert len(known_files(section)) == count
    for name, experiment in EXPERIMENTS.items():
        persons = [file for file in known_files("people") if file.startswith(f"{name}_")]
        networks = [file for file in known_files("networks") if file.startswith(f"{name}_")]
        assert (len(persons), len(networks)) == (experiment.people, 9)
        assert known_files("stimuli")[f"{name}.tar.gz"].url.endswith(f"/v0.1/{name}.tar.gz")


@pytest.mark.data
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_published_answers(data_dir, name, caplog):
    experiment = EXPERIMENTS[name]
    files = list_raw_data([data_dir / "networks", data_dir / "human"])[name]
    answers = read_answers(experiment, files)
    assert len(answers.networks) == 9
    assert len(answers.persons) == experiment.people
    assert len(answers.images) == experiment.images
    assert answers.is_published_list
    assert answers.answered.all()
    assert warn_of_faults(answers) == []
    counts = np.bincount(answers.conditions.astype(int) * 17 + answers.categories)
    assert set(counts[counts > 0]) == {experiment.images_per_category // max(1, len(experiment.conditions))}
    known = {**known_files("people"), **known_files("networks")}
    for source in answers.sources:
        assert source.sha256 == known[source.path.name].sha256
        assert source.path.stat().st_size == known[source.path.name].size
        assert verify_file(source.path, known[source.path.name].sha256)[1] == "full"


def test_observers_are_matched_by_image(write):
    person = write(
        "subject-01",
        ["cat", "na", "dog"],
        images=[f"000{i}_rot_s01_90_cat_20_n01_{i}.png" for i in (3, 1, 2)],
        condition="90",
        header="subj,Session,trial,rt,object_response,category,condition,imagename",
    )
    network = write(
        "a_net", ["dog", "cat"], images=[f"000{i}_rot_dnn_90.0_cat_20_n01_{i}.png" for i in (1, 3)], condition="90.0"
    )
    network.write_bytes(network.read_bytes().replace(b"\n", b"\r\n"))
    answers = read_answers(ROTATION, [person, network])
    assert answers.images == ("n01_1.png", "n01_2.png", "n01_3.png")
    assert answers.observers == ("a_net", "subject-01")  # networks first
    np.testing.assert_array_equal(answers.given, [[11, MISSING, 8], [0, 11, 8]])
    np.testing.assert_array_equal(answers.correct, [[False, False, True], [False, False, True]])
    np.testing.assert_array_equal(answers.conditions, [1, 1, 1])
    assert not answers.is_published_list
    assert [source.trials for source in answers.sources] == [2, 3]


def test_missing_trials_and_chance_are_said(write, caplog):
    person = write("subject-01", ["cat"] * 40)
    network = write("net", ["dog"] * 30)
    answers = read_answers(ROTATION, [network, person])
    faults = warn_of_faults(answers)
    assert faults == [
        "rotation: there are answers to 40 of its 1280 images",
        "rotation: net has 30 of 40 trials (net.csv); 10 are missing, and its numbers are of what is there",
        "rotation: net names 0.0% of the undistorted images rightly, about as chance (6.25%); is it untrained, or are "
        "its classes in another order?",
    ]
    assert [record.message for record in caplog.records] == faults


@pytest.mark.data
def test_a_damaged_public_file_is_read_with_a_warning(data_dir, tmp_path):
    """Two files as in public repositories: one with 271 of 1280 rows, and one with answers at chance level."""
    shutil.copytree(data_dir / "human" / "contrast", tmp_path / "contrast")
    for file in (tmp_path / "contrast").iterdir():
        file.chmod(0o644)
    (tmp_path / "contrast").chmod(0o755)
    source = data_dir / "networks" / "contrast" / "contrast_resnet50_session-1.csv"
    rows = source.read_bytes().split(b"\r\n")
    (tmp_path / "contrast" / "a.csv").write_bytes(b"\r\n".join(rows[:272]) + b"\r\n")
    guesses = np.random.default_rng(0).permutation([row.split(b",")[4] for row in rows[1:-1]])
    lines = [row.replace(b"resnet50", b"guesser").split(b",") for row in rows[1:-1]]
    shuffled = [b",".join([*line[:4], guess, *line[5:]]) for line, guess in zip(lines, guesses, strict=True)]
    (tmp_path / "contrast" / "b.csv").write_bytes(b"\r\n".join([rows[0], *shuffled]) + b"\r\n")
    answers = read_answers(EXPERIMENTS["contrast"], list_raw_data([tmp_path])["contrast"])
    assert (answers.missing("resnet50"), answers.missing("guesser")) == (1009, 0)
    missing, chance = warn_of_faults(answers)
    assert "resnet50 has 271 of 1280 trials (a.csv); 1009 are missing" in missing
    assert "guesser names 8.8% of the undistorted images rightly, about as chance" in chance


def test_what_is_refused(write, tmp_path):
    person = write("subject-01", ["cat"] * 3)

    def fails(match: str, *paths: Path) -> None:
        with pytest.raises(UserError, match=match) as raised:
            read_answers(ROTATION, [person, *paths])
        assert "\n" not in str(raised.value)

    same = ["0001_rot_dnn_0_cat_20_n0_1.png"] * 2
    fails(r"net\.csv: image 'n0_1\.png' is answered twice by 'net'", write("net", ["cat"] * 2, images=same))
    fails(r"net\.csv: unknown condition '45'; rotation has 0, 90, 180, 270", write("net", ["cat"], condition="45"))
    fails(r"net\.csv: unknown answer 'lion'; it must be 'na' or one of airplane", write("net", ["lion"]))
    fails(r"net\.csv: unknown category 'lion'", write("net", ["cat"], categories=["lion"]))
    fails(
        r"the category of 'n0_0\.png' is given as 'dog'; for others it is 'cat'",
        write("net", ["cat"], categories=["dog"]),
    )
    fails(r"the condition of 'n0_0\.png' is given as '90'; for others it is '0'", write("net", ["cat"], condition="90"))
    fails(r"people did not see the image 'n0_3\.png' of rotation", write("net", ["cat"] * 4))
    for subject, message in (
        ("Subject-02", "in small letters"),
        (" subject-02", "spaces around it"),
        ("people", "means all"),
    ):
        fails(message, write(subject, ["cat"], name="doubtful"))
    twin = write("subject-01", ["cat"] * 3, name="again")
    fails(r"again\.csv and .*subject-01\.csv are both of the observer 'subject-01' and of rotation", twin)
    one, other = write("a_b", ["cat"]), write("a-b", ["cat"], name="other")
    fails("are both of the observer 'a-b'", one, other)


def test_a_condition_without_any_trial_is_named(write):
    person = write("subject-01", ["cat"] * 4 + ["dog"] * 4, condition="0")
    images = [f"0001_rot_dnn_90_cat_20_n1_{n}.png" for n in range(8)]
    other = write("subject-02", ["cat"] * 8, condition="90", images=images)
    said = "\n".join(warn_of_faults(read_answers(ROTATION, [person, other])))
    assert "subject-01 has 8 of 16 trials (subject-01.csv); 8 are missing, and it has no number of this dataset" in said
    assert "none of its trials is of the condition 90" in said
    assert "subject-02 has 8 of 16 trials (subject-02.csv); 8 are missing, and its numbers are of what is there" in said


def test_folders_of_raw_data(tmp_path, write):
    with pytest.raises(UserError, match="no folder"):
        list_raw_data([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"holds no <dataset>/\*\.csv of the benchmark \(cue-conflict, edge"):
        list_raw_data([tmp_path])
    (tmp_path / "raw" / "edge").mkdir(parents=True)
    shutil.copy(write("net", ["cat"]), tmp_path / "raw" / "edge")
    assert list_raw_data([tmp_path / "raw"]) == {"edge": [tmp_path / "raw" / "edge" / "net.csv"]}
    with pytest.raises(UserError, match=rf"did you mean {tmp_path / 'raw'}\?"):
        list_raw_data([tmp_path / "raw" / "edge"])


def test_a_short_row_is_named_by_its_line(write):
    path = write("net", ["cat"] * 3)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], "", "net,1", lines[3]]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"net\.csv, line 4: 2 fields, the header has 8"):
        read_raw_data(path)


def test_published_answers_are_fetched_once(web, tmp_path, monkeypatch):
    content = b"subj,session\n"
    known = KnownFile("edge_a_session-1.csv", "test", hashlib.sha256(content).hexdigest(), len(content), web.url("/a"))
    web.files["/a"] = content
    monkeypatch.setattr(
        datasets, "known_files", lambda section: {known.name: known, "x": KnownFile("x", "", None, None)}
    )
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path))
    (path,) = fetch_answers("networks", EDGE)
    assert path == tmp_path / "networks" / "edge" / "edge_a_session-1.csv"
    assert path.read_bytes() == content
    assert fetch_answers("networks", EDGE) == [path]
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "name",
    [
        "edge_net_session-1.csv",
        "edge_net.csv",
        "Edge_net.CSV",
        "edge.csv",
        "edge-net.csv",
        "Edge-Net-session-1.csv",
    ],
)
def test_answers_to_another_dataset_are_told_by_the_files_name(write, tmp_path, name):
    """Edge and silhouette have the same image names."""
    swapped = write("net", ["cat"], images=["cat1.png"]).rename(tmp_path / name)
    with pytest.raises(UserError, match="holds answers to the dataset edge by its name, not to silhouette"):
        read_answers(EXPERIMENTS["silhouette"], [swapped])
    with pytest.raises(UserError, match="rename the file if its name is wrong"):
        read_observers([swapped], EXPERIMENTS["silhouette"])
    assert read_answers(EDGE, [swapped]).networks == ("net",)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("net", "edge-of-reason"),
        ("contrast_net", "contrast_net"),
        ("contrast_net", "contrast-net_session-1"),
        ("contrast-net", "contrast_net_session-1"),
        ("colour", "colour"),
        ("net", "net_edge"),
    ],
)
def test_a_network_may_be_named_like_a_dataset(write, subject, name):
    path = write(subject, ["cat"], images=["cat1.png"], name=name)
    assert read_answers(EXPERIMENTS["silhouette"], [path]).networks == (subject,)


@pytest.mark.parametrize("subject", ["subject-01", "net"])
def test_answers_to_another_dataset_are_told_by_the_names_of_trials(write, subject):
    path = write(subject, ["cat"], images=["0001_edg_s01_0_cat_00_cat1.png"], name="answers")
    with pytest.raises(UserError, match=r"to the dataset edge, not to silhouette: it has the image '0001_edg"):
        read_answers(EXPERIMENTS["silhouette"], [path])
    with pytest.raises(UserError, match="put the file into the folder of its dataset"):
        read_observers([path], EXPERIMENTS["silhouette"])
    assert read_answers(EDGE, [path]).observers == (subject,)
    eidolon = write("net", ["cat"], images=["0001_eid_dnn_1-10-10_cat_10_n01_1.png"], condition="1-10-10")
    with pytest.raises(UserError, match="the dataset eidolonI or eidolonII or eidolonIII, not to contrast"):
        read_answers(EXPERIMENTS["contrast"], [eidolon])
    assert read_answers(EXPERIMENTS["eidolonI"], [eidolon]).networks == ("net",)


@pytest.mark.data
def test_tokens_are_those_of_the_published_answers(data_dir):
    for name, experiment in EXPERIMENTS.items():
        for path in [*(data_dir / "human" / name).iterdir(), *(data_dir / "networks" / name).iterdir()]:
            images = read_raw_data(path).columns["imagename"]
            tokens = {image.split("_")[1] for image in images if image.count("_") >= 6}
            assert tokens == ({experiment.token} if "_" in images[0] else set())


@pytest.mark.data
def test_a_published_file_is_known_whatever_its_name(data_dir, tmp_path):
    """Networks' answers to edges and silhouettes carry no token."""
    shutil.copy(data_dir / "networks" / "edge" / "edge_resnet50_session-1.csv", tmp_path / "resnet50.csv")
    with pytest.raises(UserError, match="to the dataset edge, not to silhouette: it is the published file"):
        read_answers(EXPERIMENTS["silhouette"], [tmp_path / "resnet50.csv"])
    assert read_answers(EDGE, [tmp_path / "resnet50.csv"]).networks == ("resnet50",)


def test_who_looks_like_a_person_or_a_network_is_told(write, caplog):
    """In the published files, people have response times and networks do not."""
    person = write("subject-01", ["cat"] * 3)
    odd, late = write("subject-77", ["cat"] * 3, time="NaN"), write("subject-78", ["na"] * 3, time="NaN")
    timed = write("net", ["cat"] * 3, time="0.4")
    faults = warn_of_faults(read_answers(ROTATION, [person, odd, late, timed]))
    doubts = [fault for fault in faults if "counts as" in fault]
    assert len(doubts) == 2
    assert doubts[0].startswith("rotation: net counts as a network by its name, but has response times")
    assert doubts[1].startswith("rotation: subject-77 counts as a person by its name, but has no response time (rt)")
    assert doubts[1].endswith("(subject-77.csv)")
    caplog.clear()
    assert read_observers([odd])[0].kind == "person"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "subject-77.csv: subject-77 counts as a person by its name" in caplog.text


@pytest.mark.data
def test_nobody_published_is_doubtful(data_dir):
    paths = [path for kind in ("human", "networks") for path in (data_dir / kind).glob("*/*.csv")]
    assert len(paths) == 90 + 153
    assert {read_raw_data(path).describe_doubt() for path in paths} == {""}


def test_endings_in_capital_letters_are_read_and_others_are_named(write, tmp_path, caplog):
    folder = tmp_path / "raw" / "edge"
    folder.mkdir(parents=True)
    write("net", ["cat"]).rename(folder / "net.CSV")
    for name in ("notes.txt", "net.csv.gz"):
        (folder / name).write_bytes(b"")
    with caplog.at_level("INFO"):
        assert list_raw_data([tmp_path / "raw"]) == {"edge": [folder / "net.CSV"]}
    assert f"{folder}: not read, since its name does not end in .csv: net.csv.gz, notes.txt" in caplog.text
    assert [observer.name for observer in read_observers([folder])] == ["net"]


@pytest.mark.parametrize(("name", "meant"), [("Edge", "edge"), ("edges", "edge"), ("sketches", "sketch")])
def test_a_folder_with_almost_the_name_of_a_dataset(write, tmp_path, name, meant, caplog):
    raw = tmp_path / "raw"
    (raw / name).mkdir(parents=True)
    path = write("net", ["cat"]).rename(raw / name / "net.csv")
    with pytest.raises(UserError, match=rf"; is {raw / name} the dataset {meant}\? Then rename it"):
        list_raw_data([raw])
    with pytest.raises(UserError, match=rf"; did you mean {raw}\?" if (raw / name).name == meant else "the benchmark"):
        list_raw_data([raw / name])
    (raw / "rotation").mkdir()
    shutil.copy(path, raw / "rotation")
    assert list(list_raw_data([raw])) == ["rotation"]
    assert f"{raw / name} is not read: it is named like no dataset; did you mean {meant}?" in caplog.text
    with pytest.raises(UserError, match=rf"did you mean {raw}\?"):
        list_raw_data([tmp_path])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "net.csv")
    with pytest.raises(UserError, match=r"net\.csv: it is not a regular file, but a pipe"):
        read_raw_data(tmp_path / "net.csv")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_called_empty(tmp_path, content):
    (tmp_path / "net.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"net\.csv is empty; a raw-data CSV has the columns subj, session"):
        read_raw_data(tmp_path / "net.csv")


@pytest.fixture
def sessions(write, tmp_path):
    """Two sessions of `subject-01`, of two images each."""
    paths = []
    for number in (1, 2):
        images = [f"000{i}_rot_s01_0_cat_20_n0{number}_{i}.png" for i in (1, 2)]
        path = write("subject-01", ["cat", "dog"], images=images, name=f"rotation_subject-01_session_{number}")
        path.write_text(path.read_text(encoding="utf-8").replace("subject-01,1,", f"subject-01,{number},"))
        paths.append(path)
    return paths


def test_sessions_of_an_observer_are_one(sessions, write):
    images = [f"000{i}_rot_dnn_0_cat_20_n0{number}_{i}.png" for number in (1, 2) for i in (1, 2)]
    answers = read_answers(ROTATION, [sessions[1], write("net", ["cat"] * 4, images=images), sessions[0]])
    assert answers.observers == ("net", "subject-01")
    assert answers.answered.all()
    np.testing.assert_array_equal(answers.given[1], [8, 11, 8, 11])
    described = describe_sources({"rotation": answers})
    assert [(row["subject"], row["file"], row["trials"]) for row in described] == [
        ("net", "net.csv", 4),
        ("subject-01", "rotation_subject-01_session_2.csv", 2),
        ("subject-01", "rotation_subject-01_session_1.csv", 2),
    ]
    (observer,) = read_observers(sessions, ROTATION)
    assert observer.kind == "person"
    assert len(observer.trials) == 4
    about = describe_raw_data(observer)
    assert (about["file"], about["sha256"]) == (sessions[0].name, sha256_of_file(sessions[0]))
    assert about["further_sessions"] == [{"file": sessions[1].name, "sha256": sha256_of_file(sessions[1])}]


def test_a_session_twice_and_an_image_in_two_sessions_are_refused(sessions):
    second = sessions[1].read_text(encoding="utf-8")
    sessions[1].write_text(second.replace("subject-01,2,", "subject-01,1,"), encoding="utf-8")
    for read in (read_observers, lambda paths: read_answers(ROTATION, paths)):
        with pytest.raises(UserError, match="are both of the observer 'subject-01'"):
            read(sessions)
    sessions[1].write_text(second.replace("n02_1.png", "n01_1.png"), encoding="utf-8")
    with pytest.raises(UserError, match=r"two sessions of the observer .* both answer the image 'n01_1\.png'"):
        read_observers(sessions)

"""The raw-data CSV: reading files of the toolbox, and writing files that it can read."""

import hashlib

import pytest

from runkit import UserError
from runkit.fetch.download import DownloadError
from runkit.fetch.manifest import KnownFile
from shapebias.answers import datasets
from shapebias.answers.observers import (
    csv_name,
    find_people,
    pool_people,
    read_observer,
    read_observers,
    write_raw_data,
)
from shapebias.stimuli.images import read_stimuli

HEADER = "subj,session,trial,rt,object_response,category,condition,imagename"
PERSON = [
    "subject-01,1,1,1.13,bird,bird,0,0001_s5n_s01_0_bird_00_bird3-bird2.png",
    "subject-01,1,2,NaN,na,cat,0,0002_s5n_s01_0_cat_00_cat2-clock3.png",
]


def write(path, lines, *, end="\n"):
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_persons_file_is_read_with_either_line_end(tmp_path, end):
    person = read_observer(write(tmp_path / "a.csv", [HEADER, *PERSON], end=end))
    assert (person.name, person.kind, person.random) == ("subject-01", "person", False)
    assert person.trials.to_dict("list") == {
        "subject": ["subject-01", "subject-01"],
        "image": ["bird3-bird2.png", "cat2-clock3.png"],
        "shape": ["bird", "cat"],
        "texture": ["bird", "clock"],
        "response": ["bird", "na"],
    }


def test_column_names_may_be_in_capitals(tmp_path):
    assert len(read_observer(write(tmp_path / "a.csv", [HEADER.upper(), *PERSON])).trials) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER.replace("object_response,", ""), *PERSON], "lacks the columns object_response"),
        ([HEADER + ",Subj", PERSON[0] + ",vgg"], "has the column 'subj' twice"),
        ([HEADER, PERSON[0] + ",more"], r"a\.csv, line 2: 9 fields, the header has 8"),
        ([HEADER, PERSON[0], PERSON[1].rpartition(",")[0]], r"a\.csv, line 3: 7 fields, the header has 8"),
        ([HEADER, '"' + PERSON[0]], "is not a CSV"),
        ([HEADER, PERSON[0].replace("subject-01", "")], "subj '' is not the name"),
        ([HEADER, PERSON[0].replace("subject-01", "a\x07b")], r"subj 'a\\x07b' is not the name"),
        ([HEADER], "holds no rows"),
        ([], "is empty; a raw-data CSV has the columns subj, session"),
        ([HEADER.replace(",", ";")], "lacks the columns subj, .*; its columns are not separated by commas"),
        ([HEADER, PERSON[0], PERSON[1].replace("subject-01", "vgg")], r"holds 2 observers \(subject-01, vgg\)"),
        ([HEADER, PERSON[0], PERSON[0]], "image 'bird3-bird2.png' is answered twice by 'subject-01'"),
        ([HEADER, PERSON[0].replace(",bird,bird,", ",fish,bird,")], "unknown answer 'fish'"),
        ([HEADER, PERSON[0].replace(",bird,bird,", ",,bird,")], "unknown answer ''"),
        ([HEADER, PERSON[0].replace(",bird,bird,", ",bird,cat,")], "category of 'bird3-bird2.png' is given as 'cat'"),
        ([HEADER, PERSON[0].replace("bird3-bird2.png", "n01440764_1.JPEG")], "is not of the form"),
        ([HEADER, PERSON[0].replace("bird3-", "fish3-")], "unknown category 'fish'"),
        (
            [HEADER, PERSON[0], PERSON[0].replace("bird3-bird2", "bird7")],
            r"1 of the 2 images have no texture of their own, such as 'bird7\.png'; put the answers to each experiment",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        read_observer(write(tmp_path / "a.csv", lines))


def test_unreadable_and_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.csv"):
        read_observer(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match=r"binary\.csv is not a CSV"):
        read_observer(tmp_path / "binary.csv")


def test_a_folder_stands_for_its_files_and_nobody_comes_twice(tmp_path):
    write(tmp_path / "b.csv", [HEADER, PERSON[0].replace("subject-01", "vgg")])
    write(tmp_path / "a.csv", [HEADER, PERSON[0]])
    (tmp_path / "._a.csv").write_bytes(b"\x00\x05\x16\x07")  # as macOS leaves beside a copied file
    assert [observer.name for observer in read_observers([tmp_path])] == ["subject-01", "vgg"]
    with pytest.raises(UserError, match="are both of the observer 'vgg'"):
        read_observers([tmp_path, tmp_path / "b.csv"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no CSV"):
        read_observers([tmp_path / "empty"])


def test_what_we_write_is_what_the_toolbox_writes(benchmark_folder, tmp_path):
    stimuli = read_stimuli(benchmark_folder)[:2]
    path = tmp_path / "raw" / csv_name("swin_base.ms_in1k")
    write_raw_data(path, "swin_base.ms_in1k", stimuli, ["bear", "cat"])
    assert path.name == "cue-conflict_swin-base.ms-in1k_session-1.csv"
    assert (
        path.read_bytes()
        == (
            f"{HEADER}\r\n"
            f"swin_base.ms_in1k,1,1,NaN,bear,airplane,NaN,{stimuli[0].name}\r\n"
            f"swin_base.ms_in1k,1,2,NaN,cat,airplane,NaN,{stimuli[1].name}\r\n"
        ).encode()
    )


def test_written_answers_are_read_back(benchmark_folder, tmp_path):
    stimuli = read_stimuli(benchmark_folder)
    answers = [item.texture for item in stimuli]
    write_raw_data(tmp_path / "a.csv", "net-random-weights", stimuli, answers)
    observer = read_observer(tmp_path / "a.csv")
    assert list(observer.trials["response"]) == answers
    assert list(observer.trials["image"]) == [item.name for item in stimuli]
    assert observer.random
    assert observer.label == "net (RANDOM WEIGHTS)"


def test_a_failed_write_leaves_nothing(benchmark_folder, tmp_path):
    stimuli = read_stimuli(benchmark_folder)[:2]
    with pytest.raises(ValueError, match="1 answers to 2 stimuli"):
        write_raw_data(tmp_path / "raw" / "a.csv", "net", stimuli, ["cat"])
    assert not (tmp_path / "raw").exists()


def test_people_of_a_folder_are_told_from_networks(tmp_path):
    write(tmp_path / "a.csv", [HEADER, PERSON[0]])
    write(tmp_path / "b.csv", [HEADER, PERSON[0].replace("subject-01", "vgg")])
    assert [person.name for person in find_people(tmp_path)] == ["subject-01"]
    (tmp_path / "a.csv").unlink()
    with pytest.raises(UserError, match="holds no person's CSV"):
        find_people(tmp_path)


def test_pooled_people_keep_every_trial(make_observer):
    first = make_observer({"cat1-dog1.png": "cat", "dog1-cat1.png": "na"}, name="subject-01", kind="person")
    second = make_observer({"cat1-dog1.png": "dog", "dog1-cat1.png": "dog"}, name="subject-02", kind="person")
    pooled = pool_people([first, second])
    assert (pooled.name, pooled.kind, pooled.label) == ("people", "people", "people (n = 2)")
    assert list(pooled.trials["response"]) == ["cat", "na", "dog", "dog"]


def test_people_are_downloaded_once_and_verified_on_every_load(tmp_path, web, monkeypatch):
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path))
    known = {}
    for number in range(1, 4):
        name, row = f"cue-conflict_subject-{number:02d}.csv", PERSON[0].replace("subject-01", f"subject-{number:02d}")
        content = write(tmp_path / "source", [HEADER, row]).read_bytes()
        web.files[f"/{name}"] = content
        sha256 = hashlib.sha256(content).hexdigest()
        known[name] = KnownFile(name, "test", sha256, len(content), web.url(f"/{name}"))
    monkeypatch.setattr(datasets, "known_files", lambda section: known)
    for _ in range(2):
        assert [person.name for person in find_people()] == ["subject-01", "subject-02", "subject-03"]
    assert len(web.requests) == 3
    with (tmp_path / "people" / "cue-conflict" / "cue-conflict_subject-02.csv").open("a") as file:
        file.write(PERSON[1].replace("subject-01", "subject-02") + "\n")
    with pytest.raises(UserError, match=r"subject-02\.csv is damaged or not the published file"):
        find_people()


def test_people_that_cannot_be_had(tmp_path, web, monkeypatch):
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path))
    known = KnownFile("cue-conflict_subject-01.csv", "test", "0" * 64, 10, web.url("/gone"))
    monkeypatch.setattr(datasets, "known_files", lambda section: {known.name: known})
    with pytest.raises(DownloadError, match=r"the answers of people \(cue-conflict_subject-01\.csv\) .* answers 404"):
        find_people()

"""The layout with all images of an experiment in one folder, on made-up archives; and the published lists."""

import csv
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from runkit import UserError, sha256_of_lines
from shapebias.answers.observers import write_raw_data
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import EXPERIMENTS, Experiment
from shapebias.stimuli.images import find_stimuli, read_stimuli, unpack_archive
from shapebias.stimuli.layouts import Stimulus, is_named_by_trial, parse_image_name, parse_stimulus

ONE_FOLDER = [experiment for experiment in EXPERIMENTS.values() if experiment.in_one_folder]


@pytest.fixture
def rotation(made_up_archive) -> Path:
    """A made-up copy of an experiment in one folder, as unpacked from its archive."""
    return made_up_archive("rotation")


@pytest.mark.parametrize(
    ("name", "shape", "condition"),
    [
        ("0001_cop_dnn_c30_knife_10_n03041632_7380.png", "knife", "c30"),
        ("0001_nse_dnn_0.03_elephant_10_n02504458_7209.png", "elephant", "0.03"),
        ("0002_eid_dnn_16-10-10_airplane_10_n02690373_4183.png", "airplane", "16-10-10"),
        ("0001_ske_dnn_0_boat_00_boat-0068-sketch-23.png", "boat", "0"),
        ("0001_sty_dnn_0_bicycle_00_bicycle-0011-ILSVRC2012-val-00011821.png", "bicycle", "0"),
    ],
)
def test_pieces_of_a_name_say_condition_and_category(name, shape, condition):
    assert parse_stimulus(Path("x") / name) == Stimulus(Path("x") / name, shape, "", condition)
    assert parse_image_name(name) == (shape, "")
    assert is_named_by_trial(name)


@pytest.mark.parametrize("name", ["cat7-elephant1.png", "oven10.png", "0001_edg_s01_0_oven_00_oven10.png"])
def test_names_of_category_folders_have_no_condition(name):
    assert parse_stimulus(Path(name)).condition == ""
    assert not is_named_by_trial(name)


def test_an_unknown_category_in_the_pieces_is_refused():
    with pytest.raises(ValueError, match="unknown category 'fish'"):
        parse_image_name("0001_cop_dnn_c30_fish_10_n03041632_7380.png")


@pytest.mark.usefixtures("tenth")
@pytest.mark.parametrize("experiment", ONE_FOLDER, ids=lambda experiment: experiment.name)
def test_a_made_up_archive_of_each_experiment_is_read(experiment: Experiment, made_up_archive):
    folder = made_up_archive(experiment.name)
    stimuli = read_stimuli(folder, experiment)
    assert len(stimuli) == experiment.images
    assert [item.name for item in stimuli] == sorted(item.name for item in stimuli)
    tokens = {condition.token for condition in experiment.conditions} or {"0"}
    assert {item.condition for item in stimuli} == tokens
    assert stimuli.folder == folder / "dnn" / "session-1"
    assert not stimuli.is_published_list
    assert read_stimuli(stimuli.folder, experiment).content_sha256 == stimuli.content_sha256


def first(folder: Path) -> Path:
    return min((folder / "dnn" / "session-1").iterdir())


def spoil_missing(folder: Path) -> None:
    first(folder).unlink()


def spoil_condition(folder: Path) -> None:
    first(folder).rename(first(folder).with_name("0001_rot_dnn_45_airplane_00_n00000001_1.png"))


def spoil_name(folder: Path) -> None:
    first(folder).rename(first(folder).with_name("photo.png"))


def spoil_layout(folder: Path) -> None:
    first(folder).rename(first(folder).with_name("airplane1.png"))


def spoil_entry(folder: Path) -> None:
    (first(folder).parent / "notes.txt").write_text("", encoding="utf-8")


def spoil_size(folder: Path) -> None:
    path = first(folder)
    path.unlink()
    Image.new("RGB", (256, 200)).save(path)


def spoil_everything(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, "holds 19 images of the category airplane in the condition 0, the benchmark has 20"),
        (spoil_condition, "unknown condition '45'; rotation has 0, 90, 180, 270"),
        (spoil_name, r"'photo\.png' is not of the form"),
        (spoil_layout, "condition '', but|unknown condition ''"),
        (spoil_entry, r"is not the rotation benchmark: unknown entries: notes\.txt"),
        (spoil_size, "has 256 × 200 pixels"),
        (spoil_everything, "no folder .*; --stimuli must hold the 1280 images of rotation, or its dnn/session-1"),
    ],
)
def test_a_folder_that_is_not_the_experiment_is_refused_with_the_reason(rotation, spoil, message):
    spoil(rotation)
    with pytest.raises(UserError, match=message):
        read_stimuli(rotation, EXPERIMENTS["rotation"])


def test_sketches_are_not_edges(made_up_archive, tmp_path):
    (tmp_path / "edge").mkdir()
    for item in read_stimuli(made_up_archive("sketch"), EXPERIMENTS["sketch"]):
        (tmp_path / "edge" / item.shape).mkdir(exist_ok=True)
        os.link(item.path, tmp_path / "edge" / item.shape / item.name)
    with pytest.raises(UserError, match="is not one of the edge drawings: its name says a condition"):
        read_stimuli(tmp_path / "edge", EXPERIMENTS["edge"])


def test_a_part_will_do_when_asked_for(rotation):
    spoil_missing(rotation)
    assert len(read_stimuli(rotation, EXPERIMENTS["rotation"], complete=False)) == 1279


def test_an_archive_is_unpacked_so_that_its_images_lie_in_the_folder(rotation, tmp_path):
    with tarfile.open(tmp_path / "rotation.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.dereference = True
        tar.add(rotation, "rotation")
    unpack_archive(tmp_path / "rotation.tar.gz", tmp_path / "cache" / "rotation", EXPERIMENTS["rotation"])
    names = [path.name for path in (tmp_path / "cache" / "rotation").iterdir()]
    assert len(names) == 1280
    assert all(name.endswith(".png") for name in names)
    with pytest.raises(UserError, match="does not hold one set of category folders"):
        unpack_archive(tmp_path / "rotation.tar.gz", tmp_path / "cache" / "edge", EXPERIMENTS["edge"])


def test_an_archive_of_the_other_layout_is_refused(benchmark_folder, tmp_path):
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.dereference = True  # the fixture's images are hard links of each other
        tar.add(benchmark_folder / "cat", "cue-conflict/cat")
    with pytest.raises(UserError, match="does not hold one folder dnn/session-1"):
        unpack_archive(tmp_path / "archive.tar.gz", tmp_path / "cache" / "sketch", EXPERIMENTS["sketch"])


@pytest.mark.data
@pytest.mark.parametrize("experiment", ONE_FOLDER, ids=lambda experiment: experiment.name)
def test_the_published_names_are_the_known_list(experiment: Experiment, data_dir, link_images: Callable, tmp_path):
    """The images are not available, but their names are in the networks' published answers, in the files' order."""
    path = data_dir / "networks" / experiment.name / f"{experiment.name}_resnet50_session-1.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stimuli = read_stimuli(link_images(tmp_path / "images", [row["imagename"] for row in rows]), experiment)
    assert stimuli.is_published_list
    assert [(item.name, item.shape, item.condition) for item in stimuli] == [
        (row["imagename"], row["category"], row["condition"]) for row in rows
    ]
    write_raw_data(tmp_path / "mine.csv", "resnet50", stimuli, [row["object_response"] for row in rows])
    assert (tmp_path / "mine.csv").read_bytes() == path.read_bytes()  # names, conditions, order, columns, line ends
    assert experiment.file_list_sha256 == sha256_of_lines(f"{row['category']}/{row['imagename']}" for row in rows)


def test_images_of_another_dataset_are_told_by_their_token(link_images, tmp_path):
    """Sketches and stylized images have names of the same form."""
    link_images(tmp_path / "images", ["0001_ske_dnn_0_airplane_00_airplane-0001-sketch-0.png"])
    with pytest.raises(UserError, match=r"is not one of the stylized images: by its name it is of sketch"):
        read_stimuli(tmp_path / "images", EXPERIMENTS["stylized"], complete=False)
    assert len(read_stimuli(tmp_path / "images", EXPERIMENTS["sketch"], complete=False)) == 1


@pytest.mark.data
def test_silhouettes_are_not_edges(data_dir):
    """They have the same names, but their content is known."""
    with pytest.raises(UserError, match=r"holds the silhouettes \(--experiment silhouette\), not the edge drawings"):
        find_stimuli(data_dir / "silhouettes", EXPERIMENTS["edge"])
    assert len(find_stimuli(data_dir / "silhouettes", EXPERIMENTS["silhouette"])) == 160


def test_other_content_under_published_names_is_told(link_images, tmp_path, caplog):
    for category in CATEGORIES:
        link_images(tmp_path / "edge" / category, [f"{category}{number}.png" for number in range(1, 11)])
    assert find_stimuli(tmp_path / "edge", EXPERIMENTS["edge"]).is_published_list
    (record,) = caplog.records
    assert "the names are those of the published edge drawings, the content of the files is not" in record.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_among_the_images_is_refused_instead_of_waited_for(tmp_path):
    (tmp_path / "edge" / "cat").mkdir(parents=True)
    os.mkfifo(tmp_path / "edge" / "cat" / "cat1.png")
    with pytest.raises(UserError, match=r"cat1\.png is not a PNG image: it is not a regular file"):
        read_stimuli(tmp_path / "edge", EXPERIMENTS["edge"], complete=False)

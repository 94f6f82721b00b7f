"""Finding, checking and unpacking the benchmark."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web import serve, status

from runkit import UserError
from runkit.fetch.manifest import KnownFile
from shapebias.stimuli import images as stimuli
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.images import find_stimuli, parse_image_name, read_stimuli, unpack_archive


@pytest.fixture
def own_copy(benchmark_folder, tmp_path) -> Path:
    """A copy of the benchmark that a test may damage."""
    return Path(shutil.copytree(benchmark_folder, tmp_path / "cue-conflict"))


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("cat7-elephant1.png", ("cat", "elephant")),
        ("airplane10-airplane1.png", ("airplane", "airplane")),
        ("0001_s5n_dnn_0_airplane_00_airplane1-bicycle2.png", ("airplane", "bicycle")),
        ("0001_edg_s01_0_oven_00_oven10.png", ("oven", "")),
    ],
)
def test_names_say_shape_and_texture(name, pair):
    assert parse_image_name(name) == pair


@pytest.mark.parametrize(
    "name", ["cat.png", "cat-elephant.png", "cat7-.png", "cat7-elephant1.jpg", "n01440764_10.png", ""]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not of the form"):
        parse_image_name(name)


def test_unknown_category_in_a_name_is_refused():
    with pytest.raises(ValueError, match="unknown category 'fish'"):
        parse_image_name("cat7-fish1.png")


def test_whole_benchmark_is_listed_in_order(benchmark_folder):
    found = read_stimuli(benchmark_folder)
    assert len(found) == 1280
    assert [item.path for item in found] == sorted(item.path for item in found)
    assert sum(item.shape == item.texture for item in found) == 80
    assert {item.shape for item in found} == set(CATEGORIES)
    assert found.describe()["images"] == 1280
    assert found.describe()["published_list"] is False
    assert found.describe()["sha256_verified"] == "none"


def test_hidden_files_are_passed_over(own_copy):
    (own_copy / ".DS_Store").write_bytes(b"")
    (own_copy / "cat" / "._cat1-dog1.png").write_bytes(b"")
    assert len(read_stimuli(own_copy)) == 1280


def test_content_fingerprint_sees_another_image_under_the_same_name(own_copy):
    before = read_stimuli(own_copy)
    before_list, before_content = before.file_list_sha256, before.content_sha256
    first = before[0].path
    first.unlink()
    Image.fromarray(np.zeros((224, 224, 3), np.uint8) + 77).save(first)
    after = read_stimuli(own_copy)
    assert after.file_list_sha256 == before_list
    assert after.content_sha256 != before_content


def test_a_part_will_do_when_asked_for(benchmark_folder, tmp_path):
    shutil.copytree(benchmark_folder / "cat", tmp_path / "part" / "cat")
    assert len(read_stimuli(tmp_path / "part", complete=False)) == 80
    with pytest.raises(UserError, match="missing category folders: airplane, bear, bicycle and 12 more"):
        read_stimuli(tmp_path / "part")


def spoil_missing_folder(folder: Path) -> None:
    shutil.rmtree(folder / "knife")


def spoil_unknown_folder(folder: Path) -> None:
    (folder / "fish").mkdir()


def spoil_missing_image(folder: Path) -> None:
    next((folder / "dog").iterdir()).unlink()


def spoil_extra_image(folder: Path) -> None:
    shutil.copy(folder / "dog" / "dog1-cat2.png", folder / "dog" / "dog99-cat2.png")


def spoil_name(folder: Path) -> None:
    (folder / "dog" / "dog1-cat2.png").rename(folder / "dog" / "photo.png")


def spoil_place(folder: Path) -> None:
    (folder / "dog" / "dog1-cat2.png").rename(folder / "cat" / "dog1-cat2.png")


def spoil_format(folder: Path) -> None:
    path = folder / "dog" / "dog1-cat2.png"
    path.unlink()
    path.write_text("not an image", encoding="utf-8")


def spoil_empty(folder: Path) -> None:
    path = folder / "dog" / "dog1-cat2.png"
    path.unlink()
    path.write_bytes(b"")


def spoil_size(folder: Path) -> None:
    path = folder / "dog" / "dog1-cat2.png"
    path.unlink()
    Image.new("RGB", (256, 200)).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing_folder, "missing category folders: knife"),
        (spoil_unknown_folder, "unknown entries: fish"),
        (spoil_missing_image, "dog holds 79 images, the benchmark has 80"),
        (spoil_extra_image, "dog holds 81 images, the benchmark has 80"),
        (spoil_name, "'photo.png' is not of the form"),
        (spoil_place, "has the shape 'dog' but lies in the folder 'cat'"),
        (spoil_format, "dog1-cat2.png is not a PNG image"),
        (spoil_empty, "dog1-cat2.png is not a PNG image"),
        (spoil_size, "has 256 × 200 pixels, the benchmark's images have 224 × 224"),
    ],
)
def test_a_folder_that_is_not_the_benchmark_is_refused_with_the_reason(own_copy, spoil, message):
    spoil(own_copy)
    with pytest.raises(UserError, match=message):
        read_stimuli(own_copy)


def test_a_missing_folder_and_the_folder_above_are_named(own_copy):
    with pytest.raises(UserError, match="no folder"):
        read_stimuli(own_copy / "nowhere")
    with pytest.raises(UserError, match=f"did you mean {own_copy}"):
        read_stimuli(own_copy.parent)


def pack(tar: tarfile.TarFile, folder: Path) -> None:
    tar.dereference = True  # the fixture's images are hard links of each other
    tar.add(folder, "cue-conflict")


def test_an_archive_of_something_else_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "readme.txt").write_text("not images")
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "readme.txt", "readme.txt")
    with pytest.raises(UserError, match="does not hold one set of category folders"):
        unpack_archive(tmp_path / "archive.tar.gz", tmp_path / "cache" / "cue-conflict")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture
def cache(few_images, tenth, web, tmp_path, monkeypatch) -> Path:
    """An empty cache; the address of the archive leads to an archive with a tenth of the test's benchmark."""
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "archive", "w:gz", compresslevel=1) as tar:
        pack(tar, few_images)
    web.files["/archive"] = (tmp_path / "archive").read_bytes()
    known = KnownFile("cue-conflict.tar.gz", "test", None, None, web.url("/archive"))
    monkeypatch.setattr(stimuli, "known_files", lambda section: {known.name: known})
    return tmp_path / "cache"


def test_the_archive_is_fetched_once_and_then_taken_from_the_cache(cache, web):
    assert len(find_stimuli()) == 128
    assert len(find_stimuli()) == 128
    assert len(web.requests) == 1
    kept = sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))
    assert kept == ["cue-conflict", "cue-conflict.sha256"]


def test_an_image_of_the_cache_that_changes_is_noticed(cache):
    first = find_stimuli()[0].path
    Image.fromarray(np.zeros((224, 224, 3), np.uint8) + 77).save(first)
    with pytest.raises(UserError, match="cue-conflict is not what was downloaded at first"):
        find_stimuli()


def test_a_damaged_archive_is_fetched_again_by_the_next_run(cache, web):
    web.answers = [lambda handler, content: serve(handler, content[:5000])]
    with pytest.raises(UserError, match=r"cue-conflict\.tar\.gz cannot be unpacked"):
        find_stimuli()
    assert len(find_stimuli()) == 128


def test_an_archive_that_breaks_off_leaves_nothing_but_what_can_be_continued(cache, web):
    web.answers = [status(404)]
    with pytest.raises(UserError, match=r"404 .*unpack http.* and name its folder with --stimuli"):
        find_stimuli()
    assert not (cache / "cue-conflict").exists()
    assert len(find_stimuli()) == 128


def test_the_published_benchmark_is_recognised(data_dir):
    found = read_stimuli(data_dir / "cue-conflict")
    assert found.is_published_list
    assert found.describe()["sha256_verified"] == "full"

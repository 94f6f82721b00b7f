"""Labelled image folders: choosing evenly, and matching folders with outputs."""

from pathlib import Path

import pytest

from runkit import UserError
from shapebias.stimuli.folders import find_folder, match_classes, match_lines


@pytest.fixture
def root(tmp_path) -> Path:
    """Folders of classes with 1, 4 and 10 images, and a text file and an image next to them."""
    for name, count in (("bee", 4), ("ant", 1), ("cat", 10)):
        for i in range(count):
            path = tmp_path / name / ("deep" if i % 2 else "") / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "stray.png").touch()
    return tmp_path


def counts(folder) -> list[int]:
    return [sum(image.label == name for image in folder.images) for name in folder.classes]


@pytest.mark.parametrize(
    ("total", "expected"),
    [(None, [1, 4, 10]), (3, [1, 1, 1]), (7, [1, 3, 3]), (9, [1, 4, 4]), (12, [1, 4, 7]), (99, [1, 4, 10])],
)
def test_shares_are_equal_as_far_as_there_are_images(root, total, expected):
    folder = find_folder(root, total)
    assert folder.classes == ("ant", "bee", "cat")
    assert counts(folder) == expected
    assert folder.found == 15


def test_fewer_images_than_classes_are_spread_over_all_classes(tmp_path):
    for index in range(20):
        (tmp_path / f"{index:02}").mkdir()
        for i in range(3):
            (tmp_path / f"{index:02}" / f"{i}.png").touch()
    assert [image.label for image in find_folder(tmp_path, 4).images] == ["02", "07", "12", "17"]
    assert [counts(find_folder(tmp_path, 22)).count(n) for n in (1, 2)] == [18, 2]
    assert [i for i, n in enumerate(counts(find_folder(tmp_path, 22))) if n == 2] == [5, 15]
    assert len(find_folder(tmp_path, 1).images) == 1


def test_images_of_a_class_are_chosen_evenly(root):
    names = [image.name for image in find_folder(root, 7).images if image.label == "cat"]
    assert len(set(names)) == 3
    assert names == sorted(names)


def test_folders_without_images_are_named(root, caplog):
    (root / "dog").mkdir()
    assert find_folder(root).classes == ("ant", "bee", "cat")
    assert "left out, without images: dog" in caplog.text


def test_hidden_files_and_folders_are_no_images(root, caplog):
    for path in (root / "ant" / "._00.png", root / ".thumbnails" / "00.png", root / "._bee"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder = find_folder(root)
    assert folder.classes == ("ant", "bee", "cat")
    assert counts(folder) == [1, 4, 10]
    assert "left out" not in caplog.text
    assert len(find_folder(root, labelled=False).images) == 16


def test_without_labels_every_image_counts(root):
    folder = find_folder(root, labelled=False)
    assert len(folder.images) == 16
    assert folder.classes == ()
    assert {image.label for image in folder.images} == {""}
    assert len(find_folder(root, 5, labelled=False).images) == 5


def test_the_fingerprint_is_of_the_chosen_images(root):
    before = find_folder(root, 3).sha256()
    (root / "ant" / "00.png").write_bytes(b"other")
    assert find_folder(root, 3).sha256() != before


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(UserError, match="none does not exist; name a folder"):
        find_folder(tmp_path / "none")
    with pytest.raises(UserError, match="holds no images"):
        find_folder(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").touch()
    with pytest.raises(UserError, match=r"a folder per class, two at least, and there are 1; --unlabelled"):
        find_folder(tmp_path)


NAMES = {
    **{"n02123045": [281], "n02084071": [7], "tabby cat": [281], "plant": [3]},
    **{"n02012849": [134], "n03126707": [517], "crane": [134, 517], "bandage_tape": [5]},
}


@pytest.mark.parametrize(
    ("classes", "outputs", "expected", "how"),
    [
        (["n02084071", "n02123045"], 1000, {"n02084071": 7, "n02123045": 281}, "folders by WordNet ids"),
        (["Plant", "tabby_cat"], 1000, {"Plant": 3, "tabby_cat": 281}, "folders by class names"),
        (["bandage tape", "plant"], 1000, {"bandage tape": 5, "plant": 3}, "folders by class names"),
        (["0", "12", "3"], 13, {"0": 0, "12": 12, "3": 3}, "folders by the index of the output"),
        (["benign", "malignant"], 2, {"benign": 0, "malignant": 1}, "folders in sorted order"),
    ],
)
def test_matching(classes, outputs, expected, how):
    assert match_classes(classes, outputs, NAMES, network="net") == (expected, how)


def test_a_class_without_an_output():
    with pytest.raises(UserError, match=r"net has 1000 outputs and there are 2 class folders; 'dragon' is neither"):
        match_classes(["dragon", "n02123045"], 1000, NAMES, network="net")
    with pytest.raises(UserError, match="'0' is neither"):
        match_classes(["0", "12"], 12, {}, network="net")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["crane", "plant"], r"'crane' has a name of 2 outputs; call it n02012849 \(output 134\) or n03126707"),
        (["Tabby cat", "tabby_cat"], "'Tabby cat' and 'tabby_cat' are both of output 281; put their images into one"),
        (["tabby cat", "n02123045"], "are both of output 281"),
        (["01", "1"], "are both of output 1"),
    ],
)
def test_names_that_leave_a_choice_are_refused(classes, message):
    with pytest.raises(UserError, match=message):
        match_classes(classes, 1000, NAMES, network="net")


def test_folders_are_not_sorted_where_some_have_the_name_of_an_output():
    with pytest.raises(UserError, match=r"'dragon' is neither .* Name the outputs by --classes FILE$"):
        match_classes(["dragon", "plant"], 2, NAMES, network="net")


@pytest.mark.parametrize(
    ("classes", "lines", "expected"),
    [
        (["cat", "red_fox"], ["red_fox", "cat"], {"cat": 1, "red_fox": 0}),
        (["cat", "red fox"], ["red_fox", "Cat"], {"cat": 1, "red fox": 0}),
        (["a", "b"], ["b green", "-", "a\tred", "-"], {"a": 2, "b": 0}),
        (["fox", "red fox"], ["red fox", "fox"], {"fox": 1, "red fox": 0}),  # the whole line first
        (["red", "red fox"], ["red fox", "red, a colour", "red"], {"red": 2, "red fox": 0}),
        (["0", "1"], ["1", "0"], {"0": 1, "1": 0}),
        (["A", "a", "b"], ["a", "b", "A"], {"A": 2, "a": 0, "b": 1}),  # as in EMNIST
    ],
)
def test_lines_of_a_class_file(classes, lines, expected):
    assert match_lines(classes, lines, file=Path("classes.txt")) == expected


@pytest.mark.parametrize(
    ("classes", "lines", "message"),
    [
        (["a", "b"], ["a", "c"], "--classes classes.txt: no line is the name of the folder 'b'"),
        (["0", "1"], ["a", "b"], "no line is the name of the folder '0'"),
        (["a", "b"], ["a", "b", "a"], r"the folder 'a' is named by lines 1 \('a'\) and 3 \('a'\); keep one of them"),
        (["b", "red"], ["red fox", "red panda", "b"], "'red' is named by lines 1 .* and 2"),
        (["a_b", "a b"], ["a b", "c"], "are both of output 0"),
    ],
)
def test_class_files_that_do_not_name_each_folder_once(classes, lines, message):
    with pytest.raises(UserError, match=message):
        match_lines(classes, lines, file=Path("classes.txt"))

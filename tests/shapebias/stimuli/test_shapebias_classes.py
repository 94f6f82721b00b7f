"""Class maps of other heads: WordNet's table against the toolbox's classes, larger heads, class files."""

import numpy as np
import pytest
from timm.data import ImageNetInfo

from runkit import UserError
from shapebias.answers.decisions import aggregate_categories, decide
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_1K, IMAGENET_INDICES
from shapebias.stimuli.classes import map_imagenet_1k_subset, map_synsets, read_classes

LARGER = ["imagenet-12k", "imagenet-21k-goog", "imagenet-21k-miil", "imagenet-22k", "imagenet-22k-ms"]


def test_the_table_gives_the_toolboxs_classes_on_imagenet_1k():
    classes = map_synsets(ImageNetInfo("imagenet-1k").label_names(), name="1k")
    assert dict(classes.indices) == IMAGENET_INDICES
    assert classes.num_classes == 1000
    assert classes.complete


@pytest.mark.parametrize("head", LARGER)
def test_larger_heads_answer_all_categories_with_more_classes(head):
    synsets = ImageNetInfo(head).label_names()
    classes, subset = map_synsets(synsets, name=head), map_imagenet_1k_subset(synsets, name=head)
    assert classes.complete
    assert classes.num_classes == subset.num_classes == len(synsets)
    names = ImageNetInfo("imagenet-1k").label_names()
    for category, indices in subset.indices.items():
        assert set(indices) <= set(classes.indices[category])
        assert {synsets[i] for i in indices} <= {names[i] for i in IMAGENET_INDICES[category]}
    assert len(classes.indices["dog"]) > len(subset.indices["dog"]) > 90


def test_some_synsets_by_hand():
    """A tabby is a cat, and for the toolbox also a cougar; an emu is a bird, but for the toolbox an ostrich is not."""
    classes = map_synsets(["n02123045", "n02125311", "n01519873", "n01518878", "n00017222"], name="mine")
    assert dict(classes.indices) == {"bird": (2,), "cat": (0, 1)}  # and a plant is none of the 16
    assert not classes.complete


def test_decisions_on_a_head_of_three_categories():
    classes = map_synsets(["n02123045", "n02504458", "n02504013", "n02084071"], name="mine")
    probabilities = np.array([[0.4, 0.3, 0.3, 0.0], [0.1, 0.5, 0.0, 0.4]])
    np.testing.assert_allclose(
        aggregate_categories(probabilities, classes=classes), [[0.4, 0.0, 0.3], [0.1, 0.4, 0.25]]
    )
    assert decide(probabilities, classes=classes) == ["cat", "dog"]
    assert decide(probabilities, aggregation="sum", classes=classes) == ["elephant", "elephant"]


def test_another_number_of_classes_is_refused_with_the_heads_name():
    with pytest.raises(ValueError, match=r"1000 classes \(ImageNet-1k, classes of the model-vs-human toolbox\)"):
        aggregate_categories(np.full((1, 10), 0.1), classes=IMAGENET_1K)


def test_a_class_file(tmp_path):
    path = tmp_path / "pets.txt"
    path.write_text("cat  my first class\nn02084071 dog\n-\nn00017222 a plant\nbird\n", encoding="utf-8")
    classes = read_classes(path)
    assert dict(classes.indices) == {"bird": (4,), "cat": (0,), "dog": (1,)}
    assert classes.num_classes == 5
    assert classes.name == "classes of pets.txt"


def test_a_byte_order_mark_and_empty_last_lines_do_not_count(tmp_path):
    path = tmp_path / "pets.txt"
    path.write_text("\ufeffcat\r\ndog\r\n  \r\n\r\n", encoding="utf-8", newline="")
    assert dict(read_classes(path).indices) == {"cat": (0,), "dog": (1,)}
    assert read_classes(path).num_classes == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\ndgo\n", r"line 2: 'dgo' is neither a WordNet id such as n02123045 nor a category \(airplane, .*write -"),
        ("cat\n\ndog\n", "line 2: '' is neither"),
        ("cat\n-\n", "can answer only 'cat'; two are needed"),
        ("-\n-\n-\n", "its 3 outputs can answer none; two are needed"),
    ],
)
def test_class_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_classes(path)


def test_a_class_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read the class file"):
        read_classes(tmp_path / "none.txt")


def test_every_category_of_the_table_is_one_of_the_16():
    assert IMAGENET_1K.categories == CATEGORIES

"""The probabilities file: it is read as it was written, and faults are reported."""

import numpy as np
import pytest

from runkit import UserError
from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities

PROVENANCE = {"config": {"model": "net"}, "subject": "net", "label": "net", "weights": {}, "data": {}}
IMAGES = ["cat1-dog1.png", "dog1-cat1.png", "dog2-cat1.png"]


@pytest.fixture
def saved() -> Probabilities:
    draws = np.random.default_rng(0).random((3, 1000)) ** 40  # down to subnormal numbers
    return Probabilities((draws / draws.sum(axis=1, keepdims=True)).astype(np.float32), IMAGES, PROVENANCE)


def test_every_bit_comes_back(saved, tmp_path):
    save_probabilities(saved, tmp_path / "net.probabilities.npz")
    loaded = load_probabilities(tmp_path / "net.probabilities.npz")
    np.testing.assert_array_equal(loaded.values.view(np.uint32), saved.values.view(np.uint32))
    assert (loaded.images, loaded.provenance, loaded.model) == (IMAGES, PROVENANCE, "net")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probabilities": np.zeros((3, 1000), np.float32)}, "is not a probabilities file"),
        ({"probabilities": np.zeros((2, 1000)), "images": IMAGES, "provenance": "{}"}, "one row per image"),
        ({"probabilities": np.zeros((3, 10)), "images": IMAGES, "provenance": "{}"}, "one row per image"),
        ({"probabilities": np.zeros((3, 1000)), "images": [*IMAGES[:2], IMAGES[0]], "provenance": "{}"}, "named twice"),
        ({"probabilities": np.full((3, 1000), np.nan), "images": IMAGES, "provenance": "{}"}, "not a number in"),
        ({"probabilities": np.full((3, 1000), -0.1), "images": IMAGES, "provenance": "{}"}, "not a number in"),
        ({"probabilities": np.full((3, 1000), 1.1), "images": IMAGES, "provenance": "{}"}, "not a number in"),
        ({"probabilities": np.zeros((3, 1000)), "images": IMAGES, "provenance": "{"}, "is not a probabilities file"),
        ({"probabilities": np.zeros((3, 1000)), "images": IMAGES, "provenance": "{}"}, "does not say its config"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(arrays, message, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message):
        load_probabilities(path)


def test_missing_and_damaged_files_are_named(saved, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="does not exist"):
        load_probabilities(path)
    save_probabilities(saved, path)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:200] + bytes(len(whole) - 400) + whole[-200:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is not a probabilities file"):
            load_probabilities(path)

"""Suppressions: equal to the released code's where they are deterministic, of the stated form where they are random.

`suppressions.npz` contains a small made-up picture and the results of `transform.py` of tomburgert/feature-reliance
(commit bdb101b, OpenCV 4.11) for it. `suppressions_random.json` contains the random choices of the same code with
albumentations 1.4.1 (the places and turns of patches, the order of the colours), and the SHA-256 of its results.
"""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from runkit import UserError
from shapebias.stimuli.suppressions import CUES, SUPPRESSIONS, Variant, choose_variants, suppress

pytest.importorskip("cv2")
VARIANTS = {variant.label: variant for variant in choose_variants(["all"])}
with np.load(Path(__file__).with_name("suppressions.npz")) as _saved:
    RELEASED = {name: _saved[name] for name in _saved.files}
IMAGE = RELEASED.pop("image")
RELEASED_RANDOM = json.loads(Path(__file__).with_name("suppressions_random.json").read_text(encoding="utf-8"))


def photo(height: int = 224, width: int = 224) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("label", sorted(RELEASED))
def test_deterministic_ones_equal_the_released_code(label):
    np.testing.assert_array_equal(suppress(IMAGE, VARIANTS[label], image_name="any"), RELEASED[label])


def test_the_released_code_covers_every_deterministic_variant():
    assert set(RELEASED) == {v.label for v in VARIANTS.values() if v.suppression and not v.suppression.random}


class Chosen:
    """Stand-in for a random generator that returns the choices of the released code."""

    def __init__(self, choices: list[int]):
        self.choices = choices

    def permutation(self, indices):
        return [self.choices[i] for i in (range(indices) if isinstance(indices, int) else indices)]

    def integers(self, high: int, size: tuple[int, int]) -> np.ndarray:
        assert high == 4
        return np.reshape(self.choices, size)


@pytest.mark.parametrize("label", sorted(RELEASED_RANDOM))
def test_random_ones_equal_the_released_code_when_they_choose_alike(label):
    """32 is not a multiple of most grids, so patches have different sizes and are resized when turned."""
    suppression, strength = VARIANTS[label].suppression, VARIANTS[label].strength
    made = suppression.function(IMAGE, Chosen(RELEASED_RANDOM[label]["choices"]), **strength.parameters)
    assert hashlib.sha256(np.ascontiguousarray(made).tobytes()).hexdigest() == RELEASED_RANDOM[label]["sha256"]


def test_the_released_code_covers_every_random_suppression_of_one_cue():
    single = {
        v.label for v in VARIANTS.values() if v.suppression and v.suppression.random and len(v.suppression.cues) < 2
    }
    assert set(RELEASED_RANDOM) == single


@pytest.mark.parametrize("label", sorted(VARIANTS))
def test_every_variant_keeps_form_and_input_and_repeats(label):
    image = photo(60, 60)
    before = image.copy()
    first = suppress(image, VARIANTS[label], image_name="cat.png")
    assert (first.shape, first.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(first, suppress(image, VARIANTS[label], image_name="cat.png"))


@pytest.mark.parametrize("name", [one.name for one in SUPPRESSIONS.values() if one.random])
def test_random_ones_differ_between_images_and_seeds(name):
    variant = next(v for v in reversed(VARIANTS.values()) if v.suppression and v.suppression.name == name)
    image = photo(64, 64)
    seen = {suppress(image, variant, image_name=f"{i}.png", seed=seed).tobytes() for i in range(12) for seed in (0, 1)}
    assert len(seen) > 4  # a channel shuffle has six outcomes


@pytest.mark.parametrize("grid", [2, 4, 6, 10, 16])
def test_patch_shuffle_moves_whole_patches(grid):
    """Every patch of the result is a patch of the image, used once; 224 is not a multiple of 6 and 10."""
    image = photo()
    out = suppress(image, VARIANTS[f"patch-shuffle-{grid}"], image_name="a")
    edges = np.linspace(0, 224, grid + 1, dtype=int)
    pieces = [
        sorted(
            picture[top:bottom, left:right].tobytes()
            for top, bottom in pairwise(edges)
            for left, right in pairwise(edges)
        )
        for picture in (image, out)
    ]
    assert pieces[0] == pieces[1]
    assert not np.array_equal(image, out)


def test_patch_rotation_turns_each_patch_in_its_place():
    image = photo()
    out = suppress(image, VARIANTS["patch-rotation-4"], image_name="a")
    turns = set()
    for i in range(4):
        for j in range(4):
            place = np.s_[i * 56 : (i + 1) * 56, j * 56 : (j + 1) * 56]
            fits = [k for k in range(4) if np.array_equal(out[place], np.rot90(image[place], k))]
            assert len(fits) == 1
            turns.update(fits)
    assert turns == {0, 1, 2, 3}


def test_patch_rotation_where_patches_would_be_no_squares():
    for image in (photo(), photo(60, 90)):
        assert suppress(image, VARIANTS["patch-rotation-6"], image_name="a").shape == image.shape


def test_channel_shuffle_has_all_orders():
    image = photo(4, 4)
    orders = set()
    for i in range(100):
        out = suppress(image, VARIANTS["channel-shuffle-1"], image_name=f"{i}")
        orders.add(tuple(next(c for c in range(3) if np.array_equal(out[..., o], image[..., c])) for o in range(3)))
    assert len(orders) == 6


def test_choosing():
    assert [v.label for v in choose_variants(["greyscale"])] == [
        "none",
        *(f"greyscale-{a:g}" for a in (0.2, 0.4, 0.6, 0.8, 1)),
    ]
    for cue in CUES:
        chosen = choose_variants([cue])
        assert {v.suppression.cues for v in chosen if v.suppression} == {(cue,)}
    assert len(VARIANTS) == 69
    assert len(choose_variants(["greyscale", "colour", "greyscale"])) == 7
    with pytest.raises(UserError, match=r"unknown suppression 'blur'; take all, a cue .*gaussian-blur"):
        choose_variants(["blur"])
    assert Variant().label == "none"


def test_a_function_of_the_users(tmp_path):
    path = tmp_path / "my_suppressions.py"
    path.write_text(
        "import numpy as np\n\n\ndef invert(image):\n    return 255 - image\n\n\n"
        "def darken(image, strength):\n    return (image * (1 - strength)).astype(np.uint8)\n\n\n"
        "darken.strengths, darken.cue = (0.5, 1.0), 'colour'\n\n\ndef wrong(image):\n    return image[:1]\n",
        encoding="utf-8",
    )
    image = photo(8, 8)
    none, invert = choose_variants([f"{path}:invert"])
    np.testing.assert_array_equal(suppress(image, invert, image_name="a"), 255 - image)
    assert suppress(image, none, image_name="a") is image
    _, half, black = choose_variants([f"{path}:darken"])
    assert (half.label, half.suppression.cues) == ("darken-0.5", ("colour",))
    assert not suppress(image, black, image_name="a").any()
    with pytest.raises(UserError, match=r"wrong returned uint8 \(1, 8, 3\); it must return uint8 \(8, 8, 3\)"):
        suppress(image, choose_variants([f"{path}:wrong"])[1], image_name="a")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def greyscale(image):\n    return image\n", "greyscale' has a meaning already"),
        ("own = 3\n", "own is not a function"),
        ("def own(image):\n    return image\nown.cue = 'size'\n", "its attribute `cue` is 'size'; it must be one of"),
        ("def own(image, s):\n    return image\nown.strengths = (1, 1.0)\n", "must be different numbers"),
        ("def own(image, s):\n    return image\nown.strengths = 3\n", "must be different numbers"),
        ("def own(image, s):\n    return image\nown.strengths = ()\n", "must be different numbers"),
    ],
)
def test_functions_of_the_users_that_are_refused(tmp_path, code, message):
    path = tmp_path / "refused.py"
    path.write_text(code, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        choose_variants([f"{path}:{'greyscale' if 'greyscale' in code else 'own'}"])


def test_a_function_of_the_users_that_fails_or_writes_to_the_image(tmp_path):
    path = tmp_path / "failing.py"
    path.write_text(
        "def fails(image):\n    return image.flip()\n\n\ndef writes(image):\n    image[:] = 0\n    return image\n",
        encoding="utf-8",
    )
    image = photo(8, 8)
    before = image.copy()
    with pytest.raises(UserError, match=r"failing\.py:fails failed: AttributeError: "):
        suppress(image, choose_variants([f"{path}:fails"])[1], image_name="a")
    writes = choose_variants([f"{path}:writes"])[1]
    assert not suppress(image, writes, image_name="a").any()
    np.testing.assert_array_equal(image, before)
    first = writes.suppression.code_sha256
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert choose_variants([f"{path}:writes"])[1].suppression.code_sha256 != first


def test_two_functions_of_one_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"code_{folder}.py").write_text("def own(image):\n    return image\n", encoding="utf-8")
    both = [f"{tmp_path}/{folder}/code_{folder}.py:own" for folder in ("a", "b")]
    assert len(choose_variants([both[0], both[0]])) == 2
    with pytest.raises(UserError, match="another suppression is called 'own', too"):
        choose_variants(both)


def test_without_opencv_one_line_says_what_to_install(monkeypatch):
    from shapebias.stimuli import suppressions

    suppressions.opencv.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'replknet-analysis\[reliance\]'"):
        suppress(IMAGE, VARIANTS["bilateral-4"], image_name="a")
    suppressions.opencv.cache_clear()

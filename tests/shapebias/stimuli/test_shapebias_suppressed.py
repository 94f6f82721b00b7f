"""Suppressed images: computed once for all networks of the same input size, within a limit of memory."""

import warnings

import numpy as np
import pytest
from PIL import Image

from runkit import UserError
from shapebias.stimuli import suppressed
from shapebias.stimuli.folders import LabelledImage, find_folder
from shapebias.stimuli.suppressed import SuppressedImages, SuppressedItem, read_resized
from shapebias.stimuli.suppressions import choose_variants, suppress

pytest.importorskip("cv2")
VARIANTS = choose_variants(["greyscale", "non-local-means"])
SIZE = (24, 24)
ONE_VARIANT = 2 * 24 * 24 * 3  # bytes that a variant of both images takes


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(2):
        (tmp_path / f"class{index}").mkdir()
        Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(tmp_path / f"class{index}" / "a.png")
    return find_folder(tmp_path).images


def count_made(monkeypatch, made: SuppressedImages) -> list[int]:
    """Count the suppressions that are computed for each of two networks."""
    calls = []

    def counting(*arguments, **options):
        calls.append(arguments)
        return suppress(*arguments, **options)

    monkeypatch.setattr(suppressed, "suppress", counting)
    counts = []
    for _ in range(2):
        before = len(calls)
        for n in range(2):
            for v in range(len(VARIANTS)):
                made.make(SuppressedItem(v, n), SIZE)
        counts.append(len(calls) - before)
    return counts


def test_a_second_network_gets_what_the_first_one_was_shown(monkeypatch, images):
    everything = SuppressedImages(images, VARIANTS, keep_bytes=len(VARIANTS) * ONE_VARIANT)
    assert count_made(monkeypatch, everything) == [2 * len(VARIANTS), 0]


def test_costly_ones_are_kept_first_where_memory_is_short(monkeypatch, images):
    """With memory for five variants, the five of non-local means are kept, and those of greyscale are recomputed."""
    some = SuppressedImages(images, VARIANTS, keep_bytes=6 * ONE_VARIANT - 1)
    assert count_made(monkeypatch, some) == [2 * len(VARIANTS), 2 * 6]
    assert count_made(monkeypatch, SuppressedImages(images, VARIANTS)) == [2 * len(VARIANTS)] * 2


def test_kept_images_are_those_that_would_be_made(images):
    kept = SuppressedImages(images, VARIANTS, keep_bytes=1 << 20)
    for v, variant in enumerate(VARIANTS):
        for n, image in enumerate(images):
            wanted = suppress(read_resized(image, SIZE), variant, image_name=image.name)
            for _ in range(2):
                np.testing.assert_array_equal(kept.make(SuppressedItem(v, n), SIZE), wanted)
    other = kept.make(SuppressedItem(1, 0), (16, 20))  # another network's size
    assert other.shape == (16, 20, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16", "LA"])
def test_all_kinds_of_images_become_three_colours(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (10, 12), 1).save(path)
    pixels = read_resized(LabelledImage(path, "a", ""), (8, 8))
    assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)


def test_images_of_16_bits_are_scaled_and_palettes_keep_their_colours(tmp_path):
    values = np.array([[0, 257, 65535, 32768]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    deep = read_resized(LabelledImage(tmp_path / "deep.png", "deep", ""), (1, 4))
    assert deep[0].tolist() == [[0] * 3, [1] * 3, [255] * 3, [128] * 3]
    palette = Image.fromarray(np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)).quantize(2)
    palette.info["transparency"] = bytes([0, 255])
    palette.save(tmp_path / "palette.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = read_resized(LabelledImage(tmp_path / "palette.png", "palette", ""), (1, 2))
    assert pixels[0].tolist() == [[10, 20, 30], [200, 100, 0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((8, 8), 200, np.float32), r"a\.tif: its values are not within 0 to 1; save it with 8 or 16 bits"),
        (np.full((8, 8), 200, np.int32), r"a\.tif: its values are of 32 bits but not above 255"),
    ],
)
def test_values_whose_white_is_not_known_are_refused(tmp_path, values, message):
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=message):
        read_resized(LabelledImage(path, "a", ""), (8, 8))


def test_floats_and_32_bits_are_scaled_where_they_fit(tmp_path):
    for values, expected in ((np.full((8, 8), 0.5, np.float32), 128), (np.full((8, 8), 257 * 99, np.int32), 99)):
        Image.fromarray(values).save(tmp_path / "a.tif")
        assert (read_resized(LabelledImage(tmp_path / "a.tif", "a", ""), (8, 8)) == expected).all()


def test_one_warning_is_given_of_transparent_images(tmp_path, caplog):
    for name, alpha in (("a", 255), ("b", 0), ("c", 0)):
        path = tmp_path / name / "0.png"
        path.parent.mkdir()
        Image.new("RGBA", (24, 24), (9, 9, 9, alpha)).save(path)
    made = SuppressedImages(find_folder(tmp_path).images, VARIANTS)
    for index in range(3):
        made.make(SuppressedItem(0, index), SIZE)
    (record,) = caplog.records
    assert f"{tmp_path / 'b' / '0.png'} has transparent pixels" in record.message


def test_a_broken_image_is_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UserError, match=r"cannot read the image .*a\.png: .*; remove it or replace it"):
        read_resized(LabelledImage(path, "a", ""), (8, 8))

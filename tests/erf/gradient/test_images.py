"""Finding, choosing and reading images."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erf.gradient import images as images_module
from erf.gradient.channels import read_channels
from erf.gradient.images import find_images, read_image, take_evenly
from erf.gradient.ready import to_input
from replknet.zoo import Preprocessing
from runkit import UserError, sha256_of_file, sha256_of_files


@pytest.mark.parametrize(
    ("count", "total", "expected"), [(3, 9, [0, 3, 6]), (4, 10, [0, 2, 5, 7]), (9, 3, [0, 1, 2]), (1, 5, [0])]
)
def test_take_evenly(count, total, expected):
    paths = [Path(str(i)) for i in range(total)]
    assert take_evenly(paths, count) == [paths[i] for i in expected]


def test_exactly_as_many_as_there_are_takes_the_last_one_too(photo_folder):
    images = find_images(photo_folder, 4)
    assert [p.name for p in images.paths] == ["0.png", "1.png", "2.png", "3.png"]
    assert images.found == 4


def test_images_come_from_all_classes(photo_folder):
    assert [p.parent.name for p in find_images(photo_folder, 2).paths] == ["class0", "class1"]


def test_hidden_files_are_no_images(photo_folder, tmp_path):
    """macOS leaves `._name` next to a copied file; the folder itself may lie in a hidden one."""
    hidden = photo_folder.rename(tmp_path / ".cache")
    for path in (hidden / "class0" / "._0.png", hidden / ".thumbnails" / "0.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x00\x05\x16\x07")
    images = find_images(hidden, 99)
    assert images.found == 4
    assert [path.name for path in images.paths] == ["0.png", "1.png", "2.png", "3.png"]


def test_fingerprint_follows_names_and_contents(photo_folder, tmp_path):
    first = find_images(photo_folder, 4).sha256
    assert find_images(photo_folder, 4).sha256 == first
    assert find_images(photo_folder, 3).sha256 != first
    Image.new("RGB", (9, 9)).save(photo_folder / "class0" / "0.png")
    assert find_images(photo_folder, 4).sha256 != first


def test_bundled_photographs():
    images = find_images(None, 50)
    assert len(images.paths) == 5
    for path in images.paths:
        pixels = images.read(path, (32, 32))
        assert pixels.std() > 20
        assert not np.array_equal(pixels[..., 0], pixels[..., 2])  # in colour


def test_bundled_photographs_are_the_files_that_scikit_image_ships():
    """They are bit-identical, with the same fingerprint as when the files were read, and nothing is downloaded."""
    shipped = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    images = find_images(None, 50)
    for path in images.paths:
        assert np.array_equal(images.read(path, (100, 200)), read_image(shipped / path, (100, 200)))
    assert images.sha256 == sha256_of_files(shipped, [shipped / path for path in images.paths])


def test_another_picture_under_a_photographs_name_shows(monkeypatch):
    before = find_images(None, 2).sha256
    pixels = images_module._pixels("astronaut.png") ^ np.uint8(1)
    monkeypatch.setattr(images_module, "_pixels", lambda name: pixels)
    assert find_images(None, 2).sha256 != before


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda p: p / "no", "no does not exist; name a folder"), (lambda p: p, "holds no images")],
)
def test_no_images(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        find_images(make(tmp_path), 5)


def test_at_least_one_image(photo_folder):
    with pytest.raises(UserError, match="take at least 1"):
        find_images(photo_folder, 0)


def grey16(path):
    Image.fromarray(np.full((20, 30), 65535 // 2, np.uint16)).save(path)


@pytest.mark.parametrize(
    ("name", "save", "expected"),
    [
        ("rgb.png", lambda p: Image.new("RGB", (30, 20), (10, 20, 30)).save(p), (10, 20, 30)),
        ("grey.png", lambda p: Image.new("L", (30, 20), 77).save(p), (77, 77, 77)),
        ("rgba.png", lambda p: Image.new("RGBA", (30, 20), (10, 20, 30, 128)).save(p), (10, 20, 30)),
        ("cmyk.jpg", lambda p: Image.new("CMYK", (30, 20), (0, 0, 0, 0)).save(p), (255, 255, 255)),
        ("palette.png", lambda p: Image.new("RGB", (30, 20), (10, 20, 30)).quantize(4).save(p), (10, 20, 30)),
        ("grey16.png", grey16, (127, 127, 127)),
        ("grey16.tif", grey16, (127, 127, 127)),
        ("float.tif", lambda p: Image.fromarray(np.full((20, 30), 0.5, np.float32)).save(p), (128, 128, 128)),
        ("bit.png", lambda p: Image.new("1", (30, 20), 1).save(p), (255, 255, 255)),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, name, save, expected):
    save(tmp_path / name)
    pixels = read_image(tmp_path / name, (16, 8))
    assert pixels.shape == (16, 8, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (16, 8, 3)), atol=1)


def test_input_is_the_released_pipelines_to_the_bit(tmp_path):
    """The pipeline of the released script: Resize((S, S), bicubic), ToTensor, Normalize of torchvision."""
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = transforms.Compose(
        [
            transforms.Resize((64, 64), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )(Image.open(tmp_path / "a.png").convert("RGB"))
    ours = to_input(read_image(tmp_path / "a.png", (64, 64)), Preprocessing(mean, std, (224, 224), "bicubic", 0.9))
    assert torch.equal(ours, theirs)


# --- lists of images --------------------------------------------------------------------------------------------------


def test_a_list_keeps_its_order(photo_folder):
    listed = ["class1/2.png", "# what is left out", "", "class0/0.png", "class1/3.png"]
    (photo_folder / "list.txt").write_text("\n".join(listed), encoding="utf-8")
    images = find_images(photo_folder / "list.txt", 9)
    assert [images.name_of(path) for path in images.paths] == ["class1/2.png", "class0/0.png", "class1/3.png"]
    assert images.name == "list.txt"
    assert [path.name for path in find_images(photo_folder / "list.txt", 2).paths] == ["2.png", "0.png"]
    assert images.sha256 == sha256_of_files(photo_folder.resolve(), images.paths)


def test_several_sources_follow_each_other(photo_folder):
    (photo_folder / "list.txt").write_text("class0/1.png\n", encoding="utf-8")
    images = find_images([photo_folder / "class1", photo_folder / "list.txt", photo_folder / "class0" / "0.png"], 9)
    assert [images.name_of(path) for path in images.paths] == [
        "class1/2.png", "class1/3.png", "class0/1.png", "class0/0.png",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"names .*0\.png twice"):
        find_images([photo_folder / "class0", photo_folder / "class0" / "0.png"], 9)


def test_what_a_list_names_has_to_be_there(photo_folder):
    (photo_folder / "list.txt").write_text("class0/0.png\nclass0/9.png\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"list\.txt, line 2: .*9\.png does not exist"):
        find_images(photo_folder / "list.txt", 9)
    (photo_folder / "list.txt").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(UserError, match="lists no images"):
        find_images(photo_folder / "list.txt", 9)


def test_the_manifest_says_what_went_in(photo_folder):
    images = find_images(photo_folder, 3)
    rows = images.list_used({"class0/0.png", "class1/2.png"})
    assert [(row["image"], row["used"]) for row in rows] == [
        ("class0/0.png", True), ("class0/1.png", False), ("class1/2.png", True),
    ]  # fmt: skip
    assert rows[0]["sha256"] == sha256_of_file(photo_folder / "class0" / "0.png")
    assert rows[0]["bytes"] == (photo_folder / "class0" / "0.png").stat().st_size


# --- channels ---------------------------------------------------------------------------------------------------------


def test_three_channels_are_those_of_before(photo_folder):
    for path in find_images(photo_folder, 9).paths:
        with Image.open(path) as image:
            expected = np.array(image.convert("RGB").resize((24, 16), Image.Resampling.BICUBIC))
        assert np.array_equal(read_channels(path, (16, 24), 3), expected)


def test_one_channel_is_the_lightness(photo_folder, tmp_path):
    (path, *_) = find_images(photo_folder, 9).paths
    with Image.open(path) as image:
        expected = np.array(image.convert("L").resize((24, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(read_channels(path, (16, 24), 1)[..., 0], expected)
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(deep).save(tmp_path / "deep.png")
    pixels = read_channels(tmp_path / "deep.png", (20, 30), 1)
    np.testing.assert_allclose(pixels[..., 0], deep / 65535, atol=1e-6)  # no digit is lost
    assert find_images(None, 1).read(Path("astronaut.png"), (16, 24), 1).shape == (16, 24, 1)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
def test_arrays_of_any_number_of_channels(tmp_path, channels, kind):
    rng = np.random.default_rng(0)
    values = rng.random((20, 30, channels))
    scale = {"uint8": 255, "uint16": 65535}.get(kind, 1)
    saved = (values * scale).astype(kind)
    np.save(tmp_path / "last.npy", saved)
    np.save(tmp_path / "first.npy", np.moveaxis(saved, 2, 0))
    np.savez(tmp_path / "parts.npz", **{f"band{i}": saved[..., i] for i in range(channels)})
    names = ("last.npy", "first.npy", "parts.npz")
    one, *others = (read_channels(tmp_path / name, (20, 30), channels) for name in names)
    assert one.shape == (20, 30, channels)
    assert one.dtype == (np.uint8 if kind == "uint8" else np.float32)
    np.testing.assert_allclose(one / (255 if kind == "uint8" else 1), values, atol=1.1 / scale if scale > 1 else 1e-6)
    assert all(np.array_equal(one, other) for other in others)
    assert read_channels(tmp_path / "last.npy", (10, 12), channels).shape == (10, 12, channels)


def test_pages_and_bands_are_channels(tmp_path):
    rng = np.random.default_rng(0)
    pages = rng.integers(0, 256, (4, 20, 30), np.uint8)
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    assert np.array_equal(read_channels(tmp_path / "pages.tif", (20, 30), 4), np.moveaxis(pages, 0, 2))
    rgba = rng.integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    assert np.array_equal(read_channels(tmp_path / "rgba.png", (20, 30), 4), rgba)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda p: Image.new("RGB", (9, 9)).save(p / "a.png"), "it has 3 channels, the network takes 4"),
        (lambda p: np.save(p / "a.npy", np.zeros((9, 9, 2))), "it has 2 channels, the network takes 4"),
        (lambda p: np.save(p / "a.npy", np.zeros((9, 9, 4), np.int32)), "an array of int32; save uint8 or uint16"),
        (lambda p: np.save(p / "a.npy", np.full((9, 9, 4), np.nan)), "values that are not finite"),
        (lambda p: np.save(p / "a.npy", np.zeros((1, 9, 9, 4))), "an image is (H, W), (H, W, C) or (C, H, W)"),
        (lambda p: np.savez(p / "a.npz", a=np.zeros((9, 9)), b=np.zeros((9, 8))), "its parts differ in size"),
        (lambda p: (p / "a.npy").write_bytes(b"\x93NUMPY damaged"), "unreadable"),
    ],
)
def test_what_has_other_channels_is_skipped_with_the_reason(tmp_path, save, words):
    save(tmp_path)
    images = find_images(tmp_path, 1)
    pixels, reason = images.try_read(images.paths[0], (8, 8), 4)
    assert pixels is None
    assert words in reason


def test_arrays_beside_pictures_are_no_images(photo_folder):
    """A folder of photographs may hold masks or features as arrays; its images stay the same as before."""
    np.save(photo_folder / "class0" / "0.npy", np.zeros((9, 9)))
    assert find_images(photo_folder, 9).found == 4


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((20, 30), 200, np.float32), "its values are not within 0 to 1"),
        (np.full((20, 30), np.nan, np.float32), "its values are not within 0 to 1"),
        (np.full((20, 30), 1 << 20, np.int32), "its values are not within 0 to 65535"),
        (np.full((20, 30), 200, np.int32), "its values are of 32 bits but not above 255"),
    ],
)
def test_a_deep_picture_beyond_its_range_is_refused(values, reason, tmp_path):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=reason):
        read_image(tmp_path / "deep.tif", (8, 8))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_name_that_is_not_utf8_is_refused(photo_folder):
    (photo_folder / "class0" / "0.png").rename(os.fsdecode(os.fsencode(photo_folder / "class0") + b"/\xff.png"))
    with pytest.raises(UserError, match="the name is not valid UTF-8; rename the file"):
        find_images(photo_folder, 4)

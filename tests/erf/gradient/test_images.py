"""Finding, choosing and reading images."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erf.gradient import images as images_module
from erf.gradient.images import find_images, read_image, take_evenly
from erf.gradient.ready import to_input
from replknet.zoo import Preprocessing
from runkit import UserError, sha256_of_files


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
    """macOS leaves `._name` beside a copied file; the folder itself may lie in a hidden one."""
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
    """To the bit and with the same fingerprint as when the files were read; nothing is downloaded."""
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
    [(lambda p: p / "no", "is not a folder"), (lambda p: p, "holds no images")],
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
    """Resize((S, S), bicubic), ToTensor, Normalize of torchvision, as the released script composes them."""
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

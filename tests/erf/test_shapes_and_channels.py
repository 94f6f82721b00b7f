"""Images that are not square, or have other channels than colours, from the command line to the files."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

import erf
from erf.options import parse_config
from erf.visualize import main
from replknet import load_model
from replknet.foreign import preprocessing_of
from runkit import UserError


class Stack(nn.Module):
    """A network whose field is a square of 21 pixels."""

    def __init__(self, channels=3, **attributes):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, 4, 11, padding=5), nn.ReLU(), nn.Conv2d(4, 4, 11, padding=5))
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.net(x)


def grey():
    return Stack(1)


def deep():
    return Stack(4, mean=(0.1, 0.2, 0.3, 0.4), std=(0.5, 0.5, 0.5, 0.5))


@pytest.fixture
def run(photo_folder, tmp_path, capsys, no_pictures):
    def call(*arguments):
        code = main(["--images", str(photo_folder), "--output", str(tmp_path / "out"), "--device", "cpu", *arguments])
        return code, capsys.readouterr()

    call.folder = tmp_path / "out" / "erf"
    return call


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_sizes_are_read_as_height_by_width():
    assert parse_config(["--model", "x", "--size", "384x128", "64", "96x96"]).size == ((384, 128), 64, 96)


@pytest.mark.parametrize("word", ["384x", "x3", "3x4x5", "1.5", "a"])
def test_other_words_are_no_sizes(word, capsys):
    with pytest.raises(SystemExit):
        parse_config(["--model", "x", f"--size={word}"])
    assert "give a side in pixels, such as 512, or height and width, such as 384x128" in capsys.readouterr().err


def test_rectangles_from_end_to_end(run):
    code, said = run("--model", f"{__file__}:Stack", "--size", "96x64", "64", "64x96", "--report", "--json")
    assert code == 0
    stem = run.folder / "test_shapes_and_channels.py-Stack"
    tall, square, wide = (read(stem.with_name(f"{stem.name}.size-{size}.json")) for size in ("96x64", "64", "64x96"))
    assert [content["data"]["size_px"] for content in (tall, square, wide)] == [[96, 64], [64, 64], [64, 96]]
    assert [content["identity"]["size"] for content in (tall, square, wide)] == [[96, 64], 64, [64, 96]]
    assert tall["results"]["centre_px"] == [48, 32]
    assert tall["unit"]["feature_map"] == [96, 64]
    assert [content["theoretical_field"]["side_px"] for content in (tall, square, wide)] == [[21, 21]] * 3
    with (run.folder / "comparison.csv").open() as file:
        assert {row["size_px"] for row in csv.DictReader(file)} == {"96x64", "64", "64x96"}
    assert [network["size_px"] for network in json.loads(said.out)["networks"]] == ["96x64", 64, "64x96"]
    result = erf.load_result(stem.with_name(f"{stem.name}.size-96x64.npz"))
    assert result.contribution.shape == (96, 64)
    assert repr(result).endswith("64 x 96 pixels, 4 images)")
    assert 'viewBox="0 0 64 96"' in (run.folder / "report.html").read_text(encoding="utf-8")
    # the same command again finds them finished
    assert run("--model", f"{__file__}:Stack", "--size", "96x64", "64", "64x96")[0] == 0


def test_a_rectangle_is_the_map_of_that_input(photo_folder):
    torch.manual_seed(0)
    model = Stack().eval()
    result = erf.analyze(model, photo_folder, size=(96, 64), device="cpu", precision="float64", plain=True)
    batch = erf.load_images(photo_folder, size=(96, 64)).double()
    np.testing.assert_allclose(result.contribution, erf.contribution_map(model.double(), batch, plain=True), rtol=1e-12)


@pytest.mark.parametrize("shape", [(96, 32), (32, 96), (64, 64)])
def test_pictures_of_rectangles(shape):
    """Squares stay within the picture, even those larger than its shorter side, and the title within the figure."""
    data, versions = {"images_used": 1, "name": "ones"}, {"replknet-analysis": None, "torch": "2", "timm": "1"}
    weights = {"label": "weights x", "random": False, "model": "x", "source": "cache"}
    about = {"weights": weights, "data": data, "layer": "last", "precision": "float32", "versions": versions}
    row, column = np.ogrid[: shape[0], : shape[1]]
    even = np.ones(shape) + 3 * ((row - shape[0] // 2) ** 2 + (column - shape[1] // 2) ** 2 < 15**2)
    result = erf.ErfResult("net", even, about)
    figure = erf.draw_result(result)
    ax = figure.axes[0]
    figure.draw_without_rendering()
    (outline,) = [patch for patch in ax.patches if patch.get_width() >= min(shape) - 1 or patch.get_height() >= 31][-1:]
    assert outline.get_x() >= -0.5
    assert outline.get_y() >= -0.5
    assert outline.get_x() + outline.get_width() <= shape[1] - 0.5 + 1e-9
    assert outline.get_y() + outline.get_height() <= shape[0] - 0.5 + 1e-9
    assert ax.title.get_window_extent().y1 <= figure.bbox.y1
    assert len(erf.draw_comparison([result, result]).axes) == 4
    ax = erf.plot(result)
    named = {text.get_text() for text in ax.get_legend().get_texts()}
    assert named == {"published squares:", "20%", "30%", "50%", "99%"} or shape == (64, 64)


def test_grey_and_further_channels(run, photo_folder, tmp_path):
    assert run("--model", f"{__file__}:grey", "--size", "48")[0] == 0
    content = read(run.folder / "test_shapes_and_channels.py-grey.json")
    assert content["data"]["images_used"] == 4
    assert content["data"]["mean"] == pytest.approx([0.449])
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        np.save(arrays / f"{i}.npy", rng.random((4, 40, 50), np.float32))
    assert run("--model", f"{__file__}:deep", "--size", "48x32", "--images", str(arrays))[0] == 0
    content = read(run.folder / "test_shapes_and_channels.py-deep.json")
    assert content["data"]["images_used"] == 3
    assert content["data"]["mean"] == [0.1, 0.2, 0.3, 0.4]
    assert content["theoretical_field"]["side_px"] == [21, 21]
    # photographs have no four channels, and the message says so
    assert run("--model", f"{__file__}:deep", "--size", "48", "--overwrite")[0] == 2
    assert run("--model", f"{__file__}:deep", "--size", "48", "--overwrite", "--dry-run")[0] == 0


def test_four_channels_by_hand(tmp_path):
    """The map is the sum of the rectified gradient over all channels, each with its own normalisation."""
    torch.manual_seed(0)
    model, values = deep().eval(), np.random.default_rng(0).random((32, 32, 4))
    np.save(tmp_path / "a.npy", values)
    result = erf.analyze(model, tmp_path, size=32, device="cpu", precision="float64", plain=True)
    pixels = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]
    x = ((pixels - torch.tensor(model.mean).view(1, 4, 1, 1)) / 0.5).double().requires_grad_()
    model.double()(x)[:, :, 16, 16].relu().sum().backward()
    np.testing.assert_allclose(result.contribution, x.grad.relu().sum((0, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "channels", "mean"),
    [
        (lambda: Stack(3), 3, (0.485, 0.456, 0.406)),
        (lambda: Stack(1), 1, (pytest.approx(0.449),)),
        (lambda: Stack(6), 6, (0.0,) * 6),
        (lambda: Stack(5, mean=0.5, std=0.1), 5, (0.5,) * 5),
        (lambda: nn.ModuleDict({"head": nn.Conv2d(8, 2, 1), "body": nn.Conv2d(3, 8, 1)}), 8, (0.0,) * 8),
        (lambda: Stack(3, in_channels=3, input_size=(3, 32, 32)), 3, (0.485, 0.456, 0.406)),
    ],
)
def test_what_a_network_says_of_its_channels(make, channels, mean):
    preprocessing = preprocessing_of(make().eval())
    assert preprocessing.channels == channels
    assert preprocessing.mean == mean


class HeadFirst(nn.Module):
    """A network whose first module is not the first to run."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Conv2d(8, 2, 1), nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return self.head(self.body(x))


def test_the_first_convolution_need_not_be_the_one_that_sees_the_image():
    assert preprocessing_of(HeadFirst().eval()).channels == 3


def test_a_network_with_too_few_means_is_refused():
    with pytest.raises(UserError, match=r"Stack.mean has 2 numbers for images of 4 channels"):
        preprocessing_of(Stack(4, mean=(0.5, 0.5)).eval())


@pytest.mark.usefixtures("no_network")
def test_mean_and_std_are_part_of_the_result(run):
    base = ["--model", "test_resnet", "--weights", "random", "--size", "64"]
    assert run(*base, "--mean", "0.25", "--std", "0.25", "0.5", "0.125")[0] == 0
    content = read(run.folder / "test_resnet.json")
    assert content["data"]["mean"] == [0.25, 0.25, 0.25]
    assert content["identity"]["std"] == [0.25, 0.5, 0.125]
    assert run(*base, "--mean", "0.25", "--std", "0.25", "0.5", "0.125")[0] == 0  # is finished
    assert run(*base)[0] == 2  # is of another configuration
    assert run(*base, "--overwrite", "--mean", "0.5", "0.5")[0] == 2
    with pytest.raises(SystemExit):
        run(*base, "--std", "0")
    loaded = load_model("test_resnet", "random")
    assert content["data"]["mean"] != list(loaded.preprocessing.mean)


def test_the_manifest_lies_beside_the_result(run, photo_folder):
    (photo_folder / "class0" / "0.png").write_text("no image")
    assert run("--model", f"{__file__}:Stack", "--size", "32")[0] == 0
    with (run.folder / "test_shapes_and_channels.py-Stack.images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["used"]) for row in rows] == [
        ("class0/0.png", "False"), ("class0/1.png", "True"), ("class1/2.png", "True"), ("class1/3.png", "True"),
    ]  # fmt: skip
    assert all(len(row["sha256"]) == 64 for row in rows)


def test_lists_of_images_on_the_command_line(run, photo_folder):
    (photo_folder / "list.txt").write_text("class1/3.png\nclass0/0.png\n", encoding="utf-8")
    network = ["--model", f"{__file__}:Stack", "--size", "32"]
    assert run(*network, "--images", str(photo_folder / "list.txt"))[0] == 0
    content = read(run.folder / "test_shapes_and_channels.py-Stack.json")
    assert content["data"]["name"] == "list.txt"
    assert content["config"]["images"] == str(photo_folder / "list.txt")
    files = [str(photo_folder / "class1" / "3.png"), str(photo_folder / "class0" / "0.png")]
    assert run(*network, "--images", *files)[0] == 0  # the same images in the same order: it is finished
    assert run(*network, "--images", *reversed(files))[0] == 2

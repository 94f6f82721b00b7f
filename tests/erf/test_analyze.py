"""`erf.analyze`: the measurement of the command line from Python, and the methods of its result."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import erf
from erf.visualize import main
from replknet import load_model
from runkit import UserError

NOT_OF_THE_MAP = ("command", "started", "seconds", "config", "peak_memory")


class Net(nn.Module):
    """A network whose field is larger along one axis than along the other."""

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, (9, 3), padding=(4, 1)), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))

    def forward(self, x):
        return self.body(x)


@pytest.fixture
def result(photo_folder):
    return erf.analyze(Net(), photo_folder, size=48, device="cpu")


def equal(ours: erf.ErfResult, theirs: erf.ErfResult) -> None:
    """Assert that two results have bit-identical maps and sums of each image, and the same images."""
    assert np.array_equal(ours.contribution, theirs.contribution)
    assert ours.image_names == theirs.image_names
    for name, values in ours.sums.as_arrays().items():
        assert np.array_equal(values, theirs.sums.as_arrays()[name]), name


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, ""),
        ({"layer": 2, "position": "average", "num_images": 3}, "--layer 2 --position average --num-images 3"),
        ({"precision": "float64", "plain": True, "seed": 3}, "--precision float64 --plain --seed 3"),
        ({"layer": "layer1", "position": (0.25, 0.5)}, "--layer layer1 --position 0.25 0.5"),
    ],
)
def test_it_is_the_command_line_to_the_bit(photo_folder, tmp_path, options, arguments):
    base = ["--model", "test_resnet", "--weights", "random", "--images", str(photo_folder), "--size", "64"]
    assert main([*base, *arguments.split(), "--output", str(tmp_path), "--device", "cpu"]) == 0
    result = erf.analyze("test_resnet", photo_folder, weights="random", size=64, device="cpu", **options)
    written = erf.load_result(tmp_path / "erf" / "test_resnet.npz")
    equal(result, written)
    ours, theirs = ({k: v for k, v in r.provenance.items() if k not in NOT_OF_THE_MAP} for r in (result, written))
    assert json.loads(json.dumps(ours)) == theirs
    assert result.measured.as_dict() == json.loads((tmp_path / "erf" / "test_resnet.json").read_text())["results"]


def test_a_module_is_what_its_function_is_on_the_command_line(photo_folder, tmp_path):
    torch.manual_seed(0)
    model = Net()
    torch.save(model.state_dict(), tmp_path / "net.pth")
    base = ["--model", f"{__file__}:Net", "--weights", str(tmp_path / "net.pth"), "--images", str(photo_folder)]
    assert main([*base, "--size", "48", "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    (written,) = (tmp_path / "out" / "erf").glob("*.npz")
    result = erf.analyze(model, photo_folder, size=48, device="cpu")
    equal(result, erf.load_result(written))
    assert result.weights_label == "weights as given"
    assert result.provenance["data"]["mean"] == (0.5, 0.5, 0.5)
    assert result.provenance["command"] == f"erf.analyze(<Net>, {str(photo_folder)!r}, size=48, device='cpu')"


def test_the_module_is_left_as_it_is(photo_folder):
    model = nn.Sequential(Net(), nn.BatchNorm2d(6)).train()
    before = copy.deepcopy(model.state_dict())
    erf.analyze(model, photo_folder, size=32, device="cpu", name="mine")
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_sides_and_areas_have_their_intervals(result):
    described = result["mass_area_ratio"][2]
    side, area = result.side(0.5), result.area(0.5)
    assert side == described["side_interpolated_px"]
    assert list(side.interval) == described["side_interpolated_px_interval"]
    assert area == described["ratio_interpolated"]
    assert [area.low, area.high] == described["ratio_interpolated_interval"]
    assert result.side() == side
    assert result.side(0.3) < result.side(0.4) < side
    assert repr(side) == f"{float(side):.4g} px (95% interval {side.low:.4g} to {side.high:.4g})"
    assert f"{side:.1f}" == f"{float(side):.1f}"
    assert pickle.loads(pickle.dumps(side)).interval == side.interval
    with pytest.raises(ValueError, match=r"share 50: take a share of the contribution between 0 and 1"):
        result.side(50)


def test_measures_are_attributes_and_wrong_names_list_the_right_ones(result):
    assert result.rms_radius_px == result.measured.rms_radius_px == result["rms_radius_px"]
    assert list(result.rms_radius_px.interval) == result["rms_radius_px_interval"]
    assert {"side", "area", "rms_radius_px", "save", "plot"} <= set(dir(result))
    with pytest.raises(AttributeError, match=r"no measure 'rms_radius' \(did you mean 'rms_radius_px'\?\); there are"):
        _ = result.rms_radius
    with pytest.raises(KeyError, match=r"no measure 'mass_area' \(did you mean 'mass_area_ratio'\?\); there are"):
        _ = result["mass_area"]
    assert copy.deepcopy(result).side(0.5) == result.side(0.5)


def test_one_image_has_no_interval(photo_folder):
    side = erf.analyze(Net(), photo_folder, size=32, num_images=1, device="cpu").side(0.5)
    assert math.isnan(side.low)
    assert repr(side) == f"{float(side):.4g} px"


def test_save_load_and_plot(result, tmp_path):
    files = result.save(tmp_path)
    assert files == [tmp_path / "Net.npz", tmp_path / "Net.json"]
    equal(erf.ErfResult.load(files[0]), result)
    assert json.loads(files[1].read_text())["results"]["centre_px"] == [24, 24]
    assert result.save(tmp_path / "other.npz")[1] == tmp_path / "other.json"
    ax = result.plot(scale="published")
    assert ax.get_title() == "Net\nweights as given"


def test_networks_and_results_are_shown_in_a_line(result):
    shown = repr(load_model("test_resnet", "random"))
    assert shown == "LoadedModel(ResNet, RANDOM WEIGHTS (seed 0), 0.5 M parameters, 160 x 160 pixels)"
    assert repr(result) == "ErfResult(Net, weights as given, 48 x 48 pixels, 4 images)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": "all"}, "several maps"),
        ({"position": "middle"}, "take centre, average, or two fractions"),
        ({"num_images": 0}, "take at least 1"),
        ({"layer": "nowhere"}, "there is no such module"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(photo_folder, options, words):
    with pytest.raises(UserError, match=words):
        erf.analyze(Net(), photo_folder, **{"size": 32, "device": "cpu", **options})


def test_as_many_images_as_needed(photo_folder, tmp_path, capsys, caplog):
    rng = np.random.default_rng(1)
    for number in range(10):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(photo_folder / f"more{number}.png")
    torch.manual_seed(0)
    torch.save(Net().state_dict(), tmp_path / "net.pth")
    base = ["--model", f"{__file__}:Net", "--weights", str(tmp_path / "net.pth"), "--images", str(photo_folder)]
    base += ["--size", "32", "--device", "cpu", "--output", str(tmp_path / "out")]
    caplog.set_level("INFO")
    assert main([*base, "--until", "60%"]) == 0
    assert "after 10 images the 95% interval of the side that holds half of the contribution is " in caplog.text
    (path,) = (tmp_path / "out" / "erf").glob("*.npz")
    written = erf.load_result(path)
    content = json.loads(path.with_suffix(".json").read_text())
    side = written.side(0.5)
    assert content["stopping"] == {"until": 0.6, "interval_width": (side.high - side.low) / side, "reached": True}
    assert content["identity"]["until"] == 0.6
    assert (content["data"]["images_used"], content["data"]["images_chosen"]) == (10, 14)
    manifest = path.with_suffix(".images.csv").read_text().splitlines()
    assert sum(line.endswith("True") for line in manifest) == 10
    torch.manual_seed(0)
    equal(erf.analyze(Net(), photo_folder, size=32, device="cpu", until=0.6), written)
    # another width is another result; one that cannot be reached takes all images and says so
    assert main([*base, "--until", "1%"]) == 2
    assert "until: 0.6 -> 0.01" in capsys.readouterr().err
    assert main([*base, "--until", "0.1%", "--overwrite"]) == 0
    assert "wider than 0.001 of it: more images are needed" in caplog.text
    assert erf.load_result(path).provenance["stopping"]["reached"] is False
    assert erf.load_result(path).num_images == 14


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--until 5", "'5' is not a share between 0 and 1; write 5% or 0.05"),
        ("--until 5% --num-images 9", "--until measures at least 10 images; --num-images 9 allows fewer"),
        ("--until 5%", "--until measures at least 10 images; there are 4 (photos)"),
    ],
)
def test_wrong_ways_to_end_are_refused(photo_folder, capsys, caplog, arguments, words):
    base = ["--model", "test_resnet", "--weights", "random", "--images", str(photo_folder), *arguments.split()]
    try:
        code = main(base)
    except SystemExit as error:
        code = error.code
    assert (code, words in caplog.text + capsys.readouterr().err) == (2, True)
    with pytest.raises(UserError, match="until=5: take a share between 0 and 1"):
        erf.analyze(Net(), photo_folder, until=5)

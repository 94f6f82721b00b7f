"""A layer on the command line: its module, the call, the layout of its output, and their record in the result."""

import json
import re

import numpy as np
import pytest
import torch

import erf
from erf.visualize import main

pytestmark = pytest.mark.usefixtures("no_network", "no_pictures")

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.head = nn.Conv2d(6, 6, 3, padding=1)
        self.tokens = nn.Linear(6, 6)
        self.words = nn.Identity()
        nn.init.ones_(self.head.bias)  # so that some channels of every unit are positive
        nn.init.ones_(self.tokens.bias)

    def forward(self, x):
        x = self.stem(x)
        fine, coarse = self.head(x), self.head(x[:, :, ::2, ::2])
        order = torch.randperm(fine[0, 0].numel(), generator=torch.Generator().manual_seed(1))
        mixed = fine.flatten(2)[:, :, order].transpose(1, 2)
        self.tokens(torch.cat([mixed.mean(1, keepdim=True), mixed], 1))
        self.words({"fine": fine, "coarse": coarse})
        return fine


class Broken(Net):
    def forward(self, x):
        raise KeyError("no such table")


class Grey(Net):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 4, stride=4)
"""


@pytest.fixture
def run(photo_folder, tmp_path, capsys, caplog):
    """Call the command on a network and return the exit code, its messages, and the JSON of the result."""
    (tmp_path / "net.py").write_text(NETWORK)

    def call(*arguments, name="Net", size="64"):
        folder = tmp_path / "out"
        network = f"{tmp_path / 'net.py'}:{name}"
        given = ["--images", str(photo_folder), "--num-images", "1", "--size", size, "--output", str(folder)]
        code = main(["--model", network, *given, *arguments, "--overwrite"])
        captured, log = capsys.readouterr(), caplog.text
        caplog.clear()
        files = sorted((folder / "erf").glob("*.json")) if folder.exists() else []
        return code, captured.out, log + captured.err, json.loads(files[0].read_text()) if files else None

    call.read = lambda: capsys.readouterr().out
    call.network = lambda: _built(tmp_path / "net.py")
    return call


def _built(path):
    scope = {}
    exec(path.read_text(), scope)
    torch.manual_seed(0)
    return scope["Net"]().eval()


@pytest.mark.parametrize("plain", [[], ["--plain"]], ids=["default", "plain"])
def test_a_call_is_taken_and_said(run, tmp_path, plain):
    code, out, err, content = run("--layer", "head", "--call", "1", *plain)
    assert code == 0, err
    taken = {"module": "head", "layout": "NCHW", "call": 1, "prefix_tokens": 0, "note": None}
    assert content["layer_taken"] == taken
    assert content["layer"] == "head"
    assert content["identity"]["call"] == 1
    assert content["unit"]["feature_map"] == [8, 8]
    assert "head (call 1)" in out
    assert content["theoretical_field"]["side_px"] == [20, 20]
    assert content["theoretical_field"]["covers_px"] == [[24, 43], [24, 43]]
    assert content["theoretical_field"]["centred_side_px"] == 23  # round pixel 32, to 43
    ratios = {row["threshold"]: row["ratio"] for row in content["results"]["theoretical_ratio"]}
    assert 1 < ratios[0.9] <= ratios[0.99] <= 23 / 20
    assert "is not a square round pixel (32, 32), as squares here are; one of 23 pixels holds all of it." in out
    (saved,) = (tmp_path / "out" / "erf").glob("*.npz")
    result = erf.load_result(saved)
    figure = erf.draw_result(result)
    assert any("layer head (call 1)" in text.get_text() for text in figure.texts)


def test_command_line_and_python_give_the_same_map(run, tmp_path, photo_folder):
    code, _, err, _ = run("--layer", "head", "--call", "1", "--precision", "float64")
    assert code == 0, err
    (saved,) = (tmp_path / "out" / "erf").glob("*.npz")
    images = erf.load_images(photo_folder, num_images=1, size=64).double()
    model = run.network().double()
    found = erf.contribution_map(model, images, layer=erf.Layer("head", call=1))
    np.testing.assert_allclose(erf.load_result(saved).contribution, found, rtol=1e-7, atol=1e-12)


def test_a_layout_is_taken_and_said(run):
    code, out, err, content = run("--layer", "tokens", "--layout", "NLC:16x16", "--prefix-tokens", "1")
    assert code == 0, err
    assert content["layer_taken"]["layout"] == "NLC"
    assert content["layer_taken"]["prefix_tokens"] == 1
    assert content["identity"]["layout"] == "NLC:16x16"
    assert content["identity"]["prefix_tokens"] == 1
    assert "tokens (NLC)" in out


def test_an_entry_is_named_after_a_colon(run):
    code, _, err, content = run("--layer", "words:coarse")
    assert code == 0, err
    assert content["layer_taken"]["module"] == "words:coarse"
    assert content["unit"]["feature_map"] == [8, 8]
    code, _, err, content = run("--layer", "head:in", "--call", "0")
    assert code == 0, err
    assert content["theoretical_field"]["side_px"] == [4, 4]


REFUSED = {
    "a layout of other letters": (["--layout", "nchw"], "layout 'nchw': name the output's dimensions, such as NCHW"),
    "fewer than no tokens": (["--prefix-tokens", "-1"], "prefix tokens -1: there are 0 or more"),
    "no such call": (["--layer", "head", "--call", "2"], "runs 2 times in a forward pass; there is no call 2"),
    "which call": (["--layer", "head"], r"runs 2 times .* say which by call=0 to call=1 \(--call\)"),
    "another layout": (["--layer", "stem", "--layout", "NLC"], "which cannot be NLC"),
    "tokens in no order": (["--layer", "tokens"], r"rows and columns of the image cannot be told; say so by layout="),
    "no such entry": (["--layer", "words:deep"], "gives no 'deep'; there are words:fine"),
    "several entries": (["--layer", "words"], r"gives several tensors; name one: words:fine \(1, 6, 16, 16\)"),
    "a call of the last map": (["--call", "0"], "say more only of a submodule's output"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(run, case):
    arguments, message = REFUSED[case]
    code, out, err, content = run(*arguments)
    assert code == 2
    assert out == ""
    assert content is None
    assert re.search(message, err)
    assert "Traceback" not in err


def test_errors_of_a_networks_own_forward_pass(run):
    code, _, err, _ = run(name="Broken")
    assert code == 2
    assert "cannot take images of 64 × 64 pixels: KeyError: 'no such table'; choose another --size" in err
    assert "Traceback" not in err
    code, _, err, _ = run("--verbose", name="Broken")
    assert code == 2
    assert "Traceback" in err
    assert "raise KeyError" in err
    code, _, err, content = run(name="Grey")  # it gets grey images
    assert code == 0, err
    assert content["layer_taken"]["module"] == "output"


def test_the_cost_of_a_layer_counts_the_network_once(run):
    """Detecting the layer's layout also runs the network; a dry run does not count that run."""
    macs = {}
    for layer in ("layer4", "last"):
        code = main(["--model", "test_resnet", "--size", "64", "--layer", layer, "--dry-run", "--json"])
        assert code == 0
        (job,) = json.loads(run.read())["runs"]
        macs[layer] = job["estimate"]["macs"]
    assert macs["last"] < macs["layer4"] < 1.02 * macs["last"]

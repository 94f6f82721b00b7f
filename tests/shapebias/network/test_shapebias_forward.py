"""Users' networks: both tools report an output that is not an answer to a batch of images in one line."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from replknet import load_model, resolve_weights
from runkit import UserError
from shapebias import reliance, run
from shapebias.network.forward import LogitsOf, logits_of
from shapebias.network.inference import predict
from shapebias.network.loading import load_network
from shapebias.network.toolbox import ToolboxNetwork
from shapebias.stimuli.images import read_stimuli

CODE = """
import sys
import torch
from torch import nn


class Net(nn.Module):
    input_size = (3, 32, 32)

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(torch.zeros(len(x), 1000) + x.mean())


def mapping():
    return Net(lambda logits: {"logits": logits})


def pair():
    return Net(lambda logits: (logits, logits))


def doubled():
    return Net(lambda logits: torch.cat([logits, logits]))


def first():
    return Net(lambda logits: logits[:1])


def fails():
    return Net(lambda logits: logits @ logits)


def leaves():
    return Net(lambda logits: sys.exit())


def ends():
    sys.exit(3)


class Classifier(nn.Module):
    input_size = (3, 32, 32)

    def __init__(self, *names):
        super().__init__()
        layers = {"body": nn.Conv2d(3, 4, 3), "projection": nn.Conv2d(4, 4, 1), "head": nn.Linear(4, 1000)}
        for name in names:
            self.add_module(name, layers[name])

    def forward(self, x):
        with torch.no_grad():
            x = self.projection(self.body(x).relu()).relu()
        return self.head(x.mean((2, 3)))


class Unprojected(Classifier):
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def headed():
    return Classifier("body", "projection", "head")


def projected():
    return Classifier("body", "head", "projection")


def unprojected():
    return Unprojected("body", "head", "projection")
"""
SAID = {
    "mapping": "answers with a dict to",
    "pair": "answers with a tuple to",
    "doubled": "answers with shape (",
    "first": "answers with shape (1, 1000) to",
    "fails": "cannot take images of 32 × 32 pixels: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    "leaves": "cannot take images of 32 × 32 pixels: it calls sys.exit()",
    "ends": "ends() failed: it calls sys.exit(3)",
}


@pytest.fixture
def code(tmp_path, monkeypatch):
    path = tmp_path / "odd_nets.py"
    path.write_text(CODE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    sys.modules.pop("odd_nets", None)


@pytest.mark.parametrize("function", SAID)
def test_shape_bias_says_what_is_wrong_with_a_network(code, arguments, capsys, function):
    assert run.main(["--model", f"{code}:{function}", *arguments, "--batch-size", "4"]) == 2
    error = capsys.readouterr().err
    assert SAID[function] in error
    assert "Traceback" not in error


@pytest.fixture
def reliance_arguments(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(2):
        pixels = np.full((32, 32, 3), 40 * index, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    asked = ["--images", str(tmp_path / "images"), "--unlabelled", "--suppress", "greyscale", "--batch-size", "4"]
    return [*asked, "--output", str(tmp_path / "out"), "--control", "0"]


@pytest.mark.parametrize("function", SAID)
def test_reliance_says_what_is_wrong_with_a_network(code, reliance_arguments, capsys, function):
    assert reliance.main(["--model", f"{code}:{function}", *reliance_arguments]) == 2
    error = capsys.readouterr().err
    assert SAID[function] in error
    assert "Traceback" not in error


def without(path, network, prefix):
    """Write a checkpoint of a network that lacks the tensors whose names begin with a prefix."""
    tensors = {key: value for key, value in network.state_dict().items() if not key.startswith(prefix)}
    torch.save(tensors, path)
    return str(path)


@pytest.mark.parametrize(
    ("function", "lacks", "missing"),
    [
        ("headed", "head.", "head.weight, head.bias"),
        ("projected", "projection.", "projection.weight, projection.bias"),
        ("test_resnet", "fc.", "fc.bias, fc.weight"),
        ("torchvision/squeezenet1_1", "classifier.1.", "classifier.1.weight, classifier.1.bias"),
    ],
)
def test_answers_of_parameters_that_the_checkpoint_lacks_are_refused(
    code, arguments, reliance_arguments, tmp_path, capsys, function, lacks, missing
):
    """They would be random, or, for a network of timm, be features that count as classes."""
    name = f"{code}:{function}" if function in ("headed", "projected") else function
    whole = load_model(name, "auto" if name != function else "random").model
    asked = ["--model", name, "--weights", without(tmp_path / "some.pth", whole, lacks)]
    for command, others in ((run, arguments), (reliance, reliance_arguments)):
        assert command.main([*asked, *others]) == 2
        assert f": some.pth holds no {missing}, of which its answers are made; name a ch" in capsys.readouterr().err


def test_parameters_that_no_answer_needs_may_be_missing(code, tmp_path):
    name = f"{code}:unprojected"
    whole = load_model(name).model
    weights = without(tmp_path / "some.pth", whole, "projection.")
    network = load_network(resolve_weights(name, weights), preprocessing="model", device=torch.device("cpu"))
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.model(x), whole(x))
    assert all(value.isfinite().all() for value in network.model.state_dict().values())
    weights = without(tmp_path / "less.pth", load_model(f"{code}:projected").model, "projection.")
    loaded = load_model(f"{code}:projected", weights)
    with pytest.raises(UserError, match=r"net: less\.pth holds no projection\.weight"):
        ToolboxNetwork(loaded, "net")


def test_verbose_shows_where_a_network_fails(code, arguments, capsys):
    assert run.main(["--model", f"{code}:fails", *arguments, "--verbose"]) == 2
    error = capsys.readouterr().err
    assert "odd_nets.py" in error
    assert "Traceback" in error


def test_an_answer_has_a_row_for_each_image_and_two_outputs_at_least():
    x = torch.zeros(3, 3, 8, 8)

    def answer(logits):
        model = nn.Identity()
        model.forward = lambda _: logits
        return logits_of(model, x, name="net")

    assert answer(torch.zeros(3, 2)).shape == (3, 2)
    for wrong in (torch.zeros(3, 1), torch.zeros(6, 2), torch.zeros(1, 2), torch.zeros(3), torch.zeros(3, 2, 1), [1]):
        with pytest.raises(UserError, match=r"net answers with .* to 3 images; it must be \(3, number of classes\): "):
            answer(wrong)


def test_lack_of_memory_stays_what_it_is():
    """It is not reported as a fault of the network; instead, the batch is halved."""

    class Hungry(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        logits_of(Hungry(), torch.zeros(1, 3, 8, 8), name="net")


class Linear(nn.Module):
    """Ten outputs that depend on the mean colour of an image; with `softmax`, probabilities."""

    def __init__(self, *, outputs: int = 10, softmax: bool):
        super().__init__()
        self.head = nn.Linear(3, outputs)
        nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.head.bias)
        self.softmax = softmax

    def forward(self, x):
        logits = self.head(x.mean(dim=(2, 3)))
        return logits.softmax(dim=1) if self.softmax else logits


def test_probabilities_of_a_network_are_taken_as_they_are(benchmark_folder, caplog):
    stimuli = read_stimuli(benchmark_folder)[::200]
    expected, found = (predict(Linear(outputs=1000, softmax=softmax).eval(), stimuli) for softmax in (False, True))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (record,) = caplog.records  # none of the network with logits
    assert (
        record.message == "the network returns probabilities, not logits; they are taken as they are, without a softmax"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_told_from_probabilities(dtype):
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)

    def is_changed(model: nn.Module) -> bool:
        model = model.to(dtype).eval()
        return not torch.equal(LogitsOf(model, name="net")(images), model(images))

    assert is_changed(Linear(softmax=True))
    assert not is_changed(Linear(softmax=False))
    assert not is_changed(nn.Sequential(Linear(softmax=True), nn.ReLU(), nn.LogSoftmax(dim=1)))
    assert not is_changed(nn.Sequential(Linear(softmax=False), nn.Sigmoid()))

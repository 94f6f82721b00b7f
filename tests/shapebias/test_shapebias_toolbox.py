"""The bridge to the toolbox model-vs-human: alone, with a stand-in for its registry, and with the toolbox itself."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support import ROOT
from torch import nn

from replknet import load_model, optimize
from replknet.zoo import LoadedModel, Preprocessing, WeightsRecord
from runkit import UserError
from shapebias.answers.observers import write_raw_data
from shapebias.network.inference import TOOLBOX_PREPROCESSING, evaluate
from shapebias.stimuli.experiments import EXPERIMENTS
from shapebias.stimuli.images import read_stimuli
from shapebias.toolbox import ToolboxNetwork, register, renormalise, toolbox_name

NETWORK = "test_resnet"


@pytest.fixture
def toolbox(monkeypatch) -> SimpleNamespace:
    """A stand-in with the toolbox's registry and its way of loading a model by evaluating the name."""
    known: dict[str, list[str]] = defaultdict(list)
    zoo = ModuleType("modelvshuman.models.pytorch.model_zoo")
    registry = ModuleType("modelvshuman.models.registry")

    def register_model(framework):
        def remember(function):
            known[framework].append(function.__name__)
            return function

        return remember

    registry.register_model = register_model
    registry.list_models = lambda framework: list(known[framework])
    zoo.vit_base_patch16_224 = register_model("pytorch")(type("vit_base_patch16_224", (), {}))
    for name in ("modelvshuman", "modelvshuman.models", "modelvshuman.models.pytorch"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, zoo.__name__, zoo)
    monkeypatch.setitem(sys.modules, registry.__name__, registry)

    def load(name):
        assert name in registry.list_models("pytorch")
        return eval(f"zoo.{name}", {"zoo": zoo})(name)

    return SimpleNamespace(load=load, list_models=registry.list_models)


def test_names_become_identifiers():
    assert toolbox_name("swin_base_patch4_window7_224.ms_in1k") == "swin_base_patch4_window7_224_ms_in1k"
    with pytest.raises(UserError, match="is no Python identifier"):
        toolbox_name("3net")


def test_registered_networks_are_loaded_by_name(toolbox):
    names = register([f"{NETWORK}.r160_in1k", NETWORK], weights="random", seed=5, device="cpu")
    assert names == {"test_resnet_r160_in1k": "test_resnet.r160_in1k", "test_resnet": "test_resnet"}
    network = toolbox.load("test_resnet_r160_in1k")
    assert network.record.seed == 5
    logits = network.forward_batch(torch.zeros(2, 3, 224, 224))
    assert logits.shape == (2, 1000)
    np.testing.assert_allclose(network.softmax(logits).sum(axis=1), 1, rtol=1e-5)


def test_registering_twice_changes_nothing(toolbox):
    for _ in range(2):
        register([NETWORK], weights="random")
    assert toolbox.list_models("pytorch").count(NETWORK) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "takes 'resnet50' for torchvision's; name resnet50 with its tag"),
        ("vit_base_patch16_224", "has a model 'vit_base_patch16_224' of its own"),
        ("replknet31x", "unknown network"),
    ],
)
def test_names_that_would_load_something_else_are_refused(toolbox, name, message):
    with pytest.raises(UserError, match=message):
        register([name], weights="random")


def test_auto_is_refused_since_it_may_be_untrained(toolbox):
    with pytest.raises(UserError, match="not 'auto'"):
        register([NETWORK], weights="auto")


def test_a_missing_toolbox_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelvshuman", None)
    # the requirement is the one of the dependency group, whose line installs it from a checkout
    groups = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    requirement = "modelvshuman @ git+https://github.com/bethgelab/model-vs-human"
    assert f'modelvshuman = ["{requirement}"]' in groups
    with pytest.raises(UserError, match=re.escape(f'pip install "{requirement}"')):
        register([NETWORK], weights="random")


def test_heads_that_are_not_imagenet_1k_are_refused(toolbox):
    name = "swin_tiny_patch4_window7_224.ms_in22k"
    (registered,) = register([name], weights="random")
    with pytest.raises(UserError, match="has 21841 outputs"):
        toolbox.load(registered)


def test_the_networks_own_normalisation_replaces_the_toolboxs():
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (TOOLBOX_PREPROCESSING.mean, TOOLBOX_PREPROCESSING.std))
    given = (pixels - mean) / std
    before = given.clone()
    own = Preprocessing((0.5, 0.4, 0.3), (0.5, 0.25, 0.2), (224, 224), "bicubic", 0.9)
    expected = (pixels - torch.tensor(own.mean).view(1, 3, 1, 1)) / torch.tensor(own.std).view(1, 3, 1, 1)
    # float32: two normalisations instead of one
    torch.testing.assert_close(renormalise(given, own), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(given, before)
    assert renormalise(given, TOOLBOX_PREPROCESSING) is given


def test_other_sizes_keep_the_whole_image():
    own = Preprocessing((0.0,) * 3, (1.0,) * 3, (96, 64), "bicubic", 0.9)
    flat = renormalise(torch.zeros(1, 3, 224, 224), own)
    assert flat.shape == (1, 3, 96, 64)
    expected = torch.tensor(TOOLBOX_PREPROCESSING.mean).view(1, 3, 1, 1).expand_as(flat)
    torch.testing.assert_close(flat, expected, rtol=1e-5, atol=1e-6)


def test_toolbox_preprocessing_passes_images_on():
    class Echo(nn.Module):
        num_classes = 1000

        def forward(self, x):
            return x.flatten(1)[:, :1000]

    own = Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), "bicubic", 0.9)
    loaded = LoadedModel(Echo().eval(), own, WeightsRecord("echo", "given"), {})
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    network = ToolboxNetwork(loaded, "echo", preprocessing="toolbox")
    np.testing.assert_array_equal(network.forward_batch(images), images.flatten(1)[:, :1000].numpy())


SCRIPT = """
import sys
from shapebias.toolbox import register
import modelvshuman

names = register([sys.argv[1]], weights="random", preprocessing="toolbox", device="cpu")
datasets = ["cue-conflict", "contrast", "sketch"]
modelvshuman.Evaluate()(list(names), datasets, batch_size=16, num_workers=0, print_predictions=True)
"""


@pytest.mark.slow
def test_the_toolbox_itself_gives_the_same_answers(tmp_path):
    """Its `Evaluate` on 32 noise images in each of three datasets, of both layouts, gives our CSVs byte for byte.

    It runs in a separate process, because it looks up its folder when it is imported.
    """
    spec = importlib.util.find_spec("modelvshuman")
    if spec is None or spec.origin is None:
        pytest.skip("the model-vs-human toolbox is not installed: pip install --group modelvshuman")
    (tmp_path / "modelvshuman").symlink_to(Path(spec.origin).parent)  # it reads its lists from this folder
    draws = np.random.default_rng(0)
    trials = [(number, category) for category in ("truck", "cat") for number in range(1, 17)]
    names = {
        "cue-conflict": [f"{category}/{category}{number}-dog1.png" for number, category in trials],
        "contrast": [
            f"dnn/session-1/{number:04}_cop_dnn_{condition}_{category}_10_n0{len(category)}_{number}.png"
            for condition, (number, category) in zip(["c05", "c100"] * 16, trials, strict=True)
        ],
        "sketch": [
            f"dnn/session-1/{number:04}_ske_dnn_0_{category}_00_{category}-00{number}-sketch-2.png"
            for number, category in trials
        ],
    }
    for path in [tmp_path / "datasets" / dataset / name for dataset in names for name in names[dataset]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (7, 7, 3), np.uint8)).resize((224, 224)).save(path)
    environment = {**os.environ, "MODELVSHUMANDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SCRIPT, NETWORK], check=True, env=environment)
    loaded = load_model(NETWORK, "random")
    network = optimize(loaded.model)
    for dataset in names:
        (path,) = (tmp_path / "raw-data" / dataset).glob("*.csv")
        assert path.name == f"{dataset}_test-resnet_session-1.csv"
        stimuli = read_stimuli(tmp_path / "datasets" / dataset, EXPERIMENTS[dataset], complete=False)
        ours = evaluate(network, stimuli)  # with the toolbox's preprocessing, as registered above
        write_raw_data(tmp_path / "ours.csv", NETWORK, stimuli, ours.trials["response"].tolist())
        assert path.read_bytes() == (tmp_path / "ours.csv").read_bytes()

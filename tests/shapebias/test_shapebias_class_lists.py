"""Heads other than that of ImageNet-1k, and networks with other channels than colours, from network to files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data import ImageNetInfo
from torch import nn

import shapebias
from runkit import UserError
from shapebias.answers.decisions import decide
from shapebias.answers.observers import write_raw_data
from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities
from shapebias.network.heads import choose_classes
from shapebias.run import main, parse_config
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_1K, IMAGENET_INDICES
from shapebias.stimuli.classes import IMAGENET_HEADS, map_words
from shapebias.stimuli.images import Stimulus, parse_image_name

PETS = ["-", "bear", "n02123045", "dog", "bird"]  # n02123045 is a tabby


class Levels(nn.Module):
    """A network that names a test image's shape by its grey level, 10 times the index; output i means words[i]."""

    mean, std = (0.0,), (1.0,)

    def __init__(self, words=PETS, channels=3):
        super().__init__()
        self.in_chans, self.mean = channels, (0.0,) * channels
        shapes = [{"n02123045": "cat"}.get(word, word) for word in words]
        levels = [10 * CATEGORIES.index(shape) / 255 if shape in CATEGORIES else 2.0 for shape in shapes]
        self.register_buffer("levels", torch.tensor(levels))

    def forward(self, x):
        return -1e4 * (x.mean(dim=(1, 2, 3))[:, None] - self.levels).square()


def pets():
    return Levels()


def grey():
    return Levels(channels=1)


def deep():
    return Levels(channels=4)


@pytest.fixture
def class_file(tmp_path) -> Path:
    path = tmp_path / "pets.txt"
    path.write_text("\n".join(f"{word} a comment" for word in PETS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    """Write no pictures; they have their own tests."""
    monkeypatch.setattr("shapebias.figures.files.write_pictures", lambda *_, **__: [])


@pytest.fixture
def arguments(benchmark_folder, names, tmp_path) -> list[str]:
    """Options of a run on the whole benchmark, of which class lists leave few images."""
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in names]
    for person, cue in (("subject-01", "shape"), ("subject-02", "texture")):
        answers = [getattr(item, cue) for item in stimuli]
        write_raw_data(tmp_path / "people" / f"{person}.csv", person, stimuli, answers)
    return [
        *("--stimuli", str(benchmark_folder), "--humans", str(tmp_path / "people")),
        *("--output", str(tmp_path / "out"), "--device", "cpu", "--batch-size", "64"),
    ]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_head_with_a_class_file(arguments, class_file, tmp_path, caplog, capsys):
    base = ["--model", f"{__file__}:grey", "--classes", str(class_file)]
    assert main([*base, *arguments]) == 0
    words = "classes of pets.txt: 4 of 16 categories, not comparable"
    assert words in capsys.readouterr().out
    assert f"{words}; 80 of 1280 " in caplog.text  # 4 shapes x 4 textures x 5
    folder = tmp_path / "out" / "shapebias"
    (path,) = folder.glob("*grey.json")
    content = read(path)
    assert content["classes"] == {
        "name": "classes of pets.txt",
        "outputs": 5,
        "categories": ["bear", "bird", "cat", "dog"],
        "comparable": False,
    }
    assert len(content["config"]["classes"]) == 64
    assert content["data"]["images"] == content["results"]["trials"] == 80
    assert content["data"]["preprocessing"]["mean"] == [0.0]  # shown by its lightness
    assert content["results"]["accuracy"] == 1.0
    assert content["results"]["label"].endswith(f"grey, {words}")
    everyone = read(folder / "shape-bias.json")["results"]
    assert {one["kind"]: one["trials"] for one in everyone["observers"]} == {"network": 80, "people": 160, "person": 80}
    assert everyone["error_consistency"] is not None
    # what was saved is decided again without the network, and a finished result keeps its words
    (saved,) = folder.glob("*.probabilities.npz")
    assert load_probabilities(saved).classes == map_words(PETS, name="classes of pets.txt")
    people = arguments[2:4]
    again = ["--from-probabilities", str(saved), "--aggregation", "max", *people, "--output", str(tmp_path / "max")]
    assert main(again) == 0
    assert main([*base, *arguments]) == 0
    said = capsys.readouterr().out
    assert said.count(words) == 2
    saved.unlink()
    assert main([*base, *arguments]) == 0
    assert words in capsys.readouterr().out
    # another list is another result
    class_file.write_text(class_file.read_text().replace("bird", "-"))
    assert main([*base, *arguments]) == 2
    assert "classes: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (
            "pets",
            [],
            "pets has 5 outputs, and no class list of ImageNet has 5 classes: name the class of each output",
        ),
        ("deep", ["--classes"], "deep takes images of 4 channels, but the stimuli are photographs"),
        ("grey", ["--classes", "--preprocessing", "toolbox"], "takes grey images, and the toolbox's are coloured"),
        ("pets", ["--classes", "--mean", "0.1", "0.2"], "--mean has 2 numbers, and the network takes 3 channels"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments, class_file, capsys, model, options, words):
    options = [
        part for option in options for part in ([option, str(class_file)] if option == "--classes" else [option])
    ]
    assert main(["--model", f"{__file__}:{model}", *options, *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--from-csv", "x.csv", "--classes", "a.txt"], ["--from-probabilities", "x.npz", "--mean", "0.5"]],
)
def test_recorded_answers_have_their_classes(options, capsys):
    with pytest.raises(SystemExit):
        parse_config(options)
    assert "measures what was recorded; leave out --classes, --mean and --std" in capsys.readouterr().err


def test_the_toolboxs_preprocessing_is_not_mixed(capsys):
    with pytest.raises(SystemExit):
        parse_config(["--preprocessing", "toolbox", "--std", "0.5"])
    assert "--preprocessing toolbox sets the mean" in capsys.readouterr().err


LARGER = {
    11221: "ImageNet-21k-miil",
    11821: "ImageNet-12k",
    21841: "ImageNet-22k",
    21842: "ImageNet-22k-ms",
    21843: "ImageNet-21k-goog",
}


@pytest.mark.parametrize("outputs", LARGER)
def test_larger_heads_are_known_by_their_number(outputs):
    assert outputs in IMAGENET_HEADS
    wordnet, subset = (choose_classes(outputs, choice, name="net") for choice in ("auto", "imagenet-1k"))
    assert wordnet.label == f"classes of {LARGER[outputs]} by WordNet"
    assert subset.label == f"classes of ImageNet-1k among those of {LARGER[outputs]}"
    assert len(subset.indices["truck"]) == 8 < len(wordnet.indices["truck"])


@pytest.mark.parametrize(
    ("outputs", "classes", "words"),
    [
        (10, "auto", "net has 10 outputs, and no class list of ImageNet has 10 classes"),
        (0, "auto", "net has no classifier"),
        (
            1000,
            map_words(PETS, name="classes of pets.txt"),
            "net has 1000 outputs, but there are 5 classes of pets.txt",
        ),
    ],
)
def test_other_heads_are_refused(outputs, classes, words):
    with pytest.raises(UserError, match=words):
        choose_classes(outputs, classes, name="net")


def test_a_head_of_a_thousand_classes_is_the_toolboxs():
    assert all(choose_classes(1000, choice, name="net") is IMAGENET_1K for choice in ("auto", "imagenet-1k"))
    assert IMAGENET_1K.label == ""


def test_a_head_of_21k_classes_against_a_mapping_made_by_hand(benchmark_folder):
    """The head's trucks follow from its WordNet ids: a pickup, a fire engine; the toolbox's eight, and more."""
    stimuli = shapebias.read_stimuli(benchmark_folder)[::80]
    synsets = ImageNetInfo("imagenet-22k").label_names()
    one_of = {name: ImageNetInfo("imagenet-1k").label_names()[IMAGENET_INDICES[name][0]] for name in CATEGORIES}

    class Large(nn.Module):
        num_classes = 21841

        def forward(self, x):
            level = x * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) + torch.tensor([0.485, 0.456, 0.406]).view(
                3, 1, 1
            )
            logits = torch.zeros(len(x), 21841)
            for row, index in enumerate((level.mean(dim=(1, 2, 3)) * 255 / 10).round().long().tolist()):
                logits[row, synsets.index(one_of[CATEGORIES[index]])] = 50.0
            return logits

    observer = shapebias.evaluate(Large().eval(), stimuli, name="large", batch_size=8)
    assert observer.label == "large, classes of ImageNet-22k by WordNet"
    assert observer.categories is None
    assert (observer.trials["response"] == observer.trials["shape"]).all()
    among = shapebias.evaluate(Large().eval(), stimuli[:2], classes="imagenet-1k")
    assert among.label == "network, classes of ImageNet-1k among those of ImageNet-22k"
    by_hand = {"cat": [synsets.index("n02123045")], "truck": [synsets.index("n03345487")]}  # tabby, fire engine
    wordnet = choose_classes(21841, "auto", name="large")
    assert all(set(indices) <= set(wordnet.indices[name]) for name, indices in by_hand.items())


@pytest.mark.parametrize("channels", [1, 3])
def test_any_module_is_evaluated_with_a_class_list(benchmark_folder, class_file, channels):
    named = ("bear", "bird", "cat", "dog")
    stimuli = [item for item in shapebias.read_stimuli(benchmark_folder) if item.shape in named][::5]
    model = Levels(channels=channels).eval()
    wants = shapebias.network.inference.TOOLBOX_PREPROCESSING
    as_it_is = type(wants)((0.0,) * channels, (1.0,) * channels, (224, 224), "bicubic", 1.0)
    for classes in (class_file, str(class_file), PETS):
        observer = shapebias.evaluate(model, stimuli, classes=classes, preprocessing=as_it_is)
        assert 0 < len(observer.trials) < len(stimuli)
        assert set(observer.trials["shape"]) | set(observer.trials["texture"]) <= set(named)
        assert (observer.trials["response"] == observer.trials["shape"]).all()
        assert observer.label.endswith(": 4 of 16 categories, not comparable")
        assert observer.categories == named
    if channels == 1:  # the toolbox's mean and deviation are averaged
        assert len(shapebias.evaluate(model, stimuli, classes=PETS).trials) == len(observer.trials)
    with pytest.raises(UserError, match="none of the 1 stimuli is of the categories"):
        shapebias.evaluate(model, stimuli[:1], classes=["truck", "car", *PETS[:3]], preprocessing=as_it_is)


def test_probabilities_say_what_their_classes_are(tmp_path):
    classes = map_words(PETS, name="mine")
    values = np.full((1, 5), 0.2, np.float32)
    about = {key: {} for key in ("config", "subject", "label", "weights", "data")}
    save_probabilities(Probabilities(values, ["cat1-dog1.png"], about, classes), path := tmp_path / "a.npz")
    loaded = load_probabilities(path)
    assert loaded.classes == classes
    assert decide(loaded.values, classes=loaded.classes)[0] in classes.categories
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "classes": json.dumps({"name": "mine", "outputs": 5, "indices": {"cat": [7]}})})
    with pytest.raises(UserError, match="outputs that the head has not"):
        load_probabilities(path)
    save_probabilities(Probabilities(np.zeros((1, 1000)), ["cat1-dog1.png"], about), path)
    with np.load(path) as archive:
        assert sorted(archive) == ["images", "probabilities", "provenance"]  # as it was before there were class lists


def test_a_mean_that_was_said_decides_the_result(arguments, class_file, tmp_path):
    base = ["--model", f"{__file__}:pets", "--classes", str(class_file), "--mean", "0.25", "--std", "0.5", "0.5", "1"]
    assert main([*base, *arguments]) == 0
    (path,) = (tmp_path / "out" / "shapebias").glob("*pets.json")
    content = read(path)
    assert (content["config"]["mean"], content["config"]["std"]) == ([0.25], [0.5, 0.5, 1.0])
    assert content["data"]["preprocessing"]["mean"] == [0.25, 0.25, 0.25]

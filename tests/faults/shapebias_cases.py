"""What can go wrong in `shapebias.run`."""

import os
from pathlib import Path

import numpy as np
import pytest
from erf_cases import NET, full_disk, not_a_number, state_of
from fault_case import Case
from PIL import Image

from shapebias.answers.observers import write_raw_data
from shapebias.stimuli.images import Stimulus, parse_image_name

IMAGE = "cat/cat1-airplane1.png"


def data(place: Path) -> list[str]:
    """The benchmark that the test provides, answers of people, and the arguments that name both."""
    (place / "people").mkdir(exist_ok=True)
    names = sorted(path.name for path in (place / "cue-conflict").glob("*/*.png"))
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in names]
    write_raw_data(place / "people" / "1.csv", "subject-01", stimuli, [item.shape for item in stimuli])
    return ["--stimuli", str(place / "cue-conflict"), "--humans", str(place / "people"), "--device", "cpu"]


def options(*more: str):
    """A valid call with `more` arguments."""
    return lambda place: ["--model", NET, "--weights", "random", *data(place), *more]


def weights(make):
    """A valid call with the checkpoint that `make` writes."""

    def call(place: Path) -> list[str]:
        make(place / "weights.pth")
        return ["--model", NET, "--weights", str(place / "weights.pth"), *data(place)]

    return call


def network(outputs: int, channels: int = 3, classes: tuple[str, str] | None = None):
    """A call on the user's own network; `classes` are the name and the text of a class file."""

    def call(place: Path) -> list[str]:
        layers = f"nn.Conv2d({channels}, {outputs}, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()"
        (place / "net.py").write_text(f"from torch import nn\n\n\ndef build():\n    return nn.Sequential({layers})\n")
        arguments = ["--model", f"{place / 'net.py'}:build", *data(place)]
        if classes:
            (place / classes[0]).write_text(classes[1])
            arguments += ["--classes", str(place / classes[0])]
        return arguments

    return call


def stimuli(change):
    """A call on a benchmark that `change` has damaged."""

    def call(place: Path) -> list[str]:
        arguments = options()(place)
        change(place / "cue-conflict")
        return arguments

    return call


def replaced(make, name: str = IMAGE):
    """A call on a benchmark in which one image has been replaced by another file."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)  # it is a link to the benchmark that all tests share
        make(folder / name)

    return stimuli(change)


def earlier(after: tuple[str, ...] = ()):
    """A second call on the output folder of an interrupted one."""

    def call(place: Path) -> list[str]:
        from shapebias.network import inference
        from shapebias.run import main

        arguments, calls = [*options()(place), "--batch-size", "8"], []
        real = inference._ask

        def interrupt_second(*args):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "_ask", interrupt_second)
            assert main([*arguments, "--output", str(place / "out")]) == 130
        return [*arguments, *after]

    return call


def csv(change):
    """`--from-csv` with answers that `change` has damaged; it receives and returns their text."""

    def call(place: Path) -> list[str]:
        people = data(place)[2:4]
        text = (place / "people" / "1.csv").read_text(encoding="utf-8").replace("subject-01", "net")
        (place / "net.csv").write_text(change(text))
        return ["--from-csv", str(place / "net.csv"), *people]

    return call


def from_probabilities(make):
    def call(place: Path) -> list[str]:
        make(place / "net.probabilities.npz")
        return ["--from-probabilities", str(place / "net.probabilities.npz"), *data(place)[2:4]]

    return call


def damaged(path: Path) -> None:
    """A PNG of which only the header is valid."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])


def answers_of_someone(folder: Path) -> list[str]:
    """A folder with nothing but the CSV of a network."""
    (folder / "people" / "1.csv").write_text(
        (folder / "people" / "1.csv").read_text(encoding="utf-8").replace("subject-01", "net")
    )
    return []


ASKED, STIMULI, WEIGHTS, ANSWERS, FILES = (
    f"shapebias.run: {part}" for part in ("arguments", "stimuli", "networks and weights", "recorded answers", "files")
)

CASES = [
    Case(ASKED, "the same network twice", options("--model", NET, NET), f"error: --model names {NET} twice"),
    Case(
        ASKED,
        "one checkpoint for two networks",
        options("--model", NET, "resnet18", "--weights", "a.pth"),
        "error: --weights a.pth is one checkpoint; name one --model with it",
    ),
    Case(
        ASKED,
        "`--batch-size -4`",
        options("--batch-size=-4"),
        "error: argument --batch-size: take auto or a whole number of at least 1, not '-4'",
    ),
    Case(ASKED, "`--seed -1`", options("--seed", "-1"), "error: --seed must be at least 0, not -1"),
    Case(
        ASKED,
        "`--aggregation median`",
        options("--aggregation", "median"),
        "error: argument --aggregation: invalid choice: 'median' …",
    ),
    Case(
        ASKED, "a device that is missing", options("--device", "cuda:77"), "error: --device cuda:77 cannot be used: …"
    ),
    Case(
        ASKED,
        "networks and recorded answers",
        lambda _: ["--from-csv", "a.csv", "--model", NET],
        "error: --from-csv measures what was recorded; leave out --model, --weights and --stimuli",
    ),
    Case(
        STIMULI,
        "no such folder",
        options("--stimuli", "nowhere"),
        "error: no folder nowhere; --stimuli must hold the 16 category folders (cue-conflict)",
    ),
    Case(
        STIMULI,
        "an empty folder",
        lambda place: ((place / "new").mkdir(), options("--stimuli", str(place / "new"))(place))[1],
        "error: …new is not the cue-conflict benchmark: missing category folders: airplane, bear, bicycle and 13 more",
    ),
    Case(
        STIMULI,
        "the parent folder",
        lambda place: options("--stimuli", str(place))(place),
        "error: … is not the cue-conflict benchmark: missing …; did you mean …cue-conflict?",
    ),
    Case(
        STIMULI,
        "one folder too many",
        stimuli(lambda p: (p / "fish").mkdir()),
        "error: …cue-conflict is not the cue-conflict benchmark: unknown entries: fish",
    ),
    Case(
        STIMULI,
        "one folder too few",
        stimuli(lambda p: (p / "cat").rename(p.parent / "cat")),
        "error: …cue-conflict is not the cue-conflict benchmark: missing category folders: cat",
    ),
    Case(
        STIMULI,
        "one image too few",
        stimuli(lambda p: (p / IMAGE).unlink()),
        "error: …cat holds 79 images, the benchmark has 80 of each category; unpack the archive again, or leave out --stimuli to download it",
    ),
    Case(
        STIMULI,
        "one image too many",
        stimuli(lambda p: os.link(p / IMAGE, p / "cat" / "cat99-dog1.png")),
        "error: …cat holds 81 images, the benchmark has 80 of each category; …",
    ),
    Case(
        STIMULI,
        "an image of another name",
        stimuli(lambda p: os.link(p / IMAGE, p / "cat" / "holiday.png")),
        "error: …cat: image name 'holiday.png' is not of the form <shape><n>-<texture><m>.png, e.g. cat7-elephant1.png, "
        "or …",
    ),
    Case(
        STIMULI,
        "an image of an unknown category",
        stimuli(lambda p: os.link(p / IMAGE, p / "cat" / "cat1-fish1.png")),
        "error: …cat: image name 'cat1-fish1.png' has the unknown category 'fish'",
    ),
    Case(
        STIMULI,
        "an image in another folder",
        stimuli(lambda p: (p / "dog" / "dog1-airplane1.png").rename(p / "cat" / "dog1-airplane1.png")),
        "error: …dog1-airplane1.png has the shape 'dog' but lies in the folder 'cat'",
    ),
    Case(
        STIMULI,
        "a JPEG named .png",
        replaced(lambda p: Image.new("RGB", (224, 224)).save(p, "JPEG")),
        "error: …cat1-airplane1.png is not a PNG image",
    ),
    Case(
        STIMULI,
        "a file of 0 bytes",
        replaced(lambda p: p.write_bytes(b"")),
        "error: …cat1-airplane1.png is not a PNG image",
    ),
    Case(
        STIMULI,
        "an image of another size",
        replaced(lambda p: Image.new("RGB", (64, 64)).save(p)),
        "error: …cat1-airplane1.png has 64 × 64 pixels, the benchmark's images have 224 × 224",
    ),
    Case(
        STIMULI,
        "a truncated image",
        replaced(damaged, "airplane/airplane1-airplane1.png"),
        "error: cannot read the image …airplane1-airplane1.png: …; unpack the archive again",
    ),
    Case(
        WEIGHTS,
        "an unknown network",
        options("--model", "test_resmet"),
        "error: unknown network 'test_resmet'; did you mean test_resnet…?",
    ),
    Case(
        WEIGHTS,
        "no such checkpoint",
        weights(lambda p: None),
        "error: --weights …weights.pth does not exist; give 'auto', …",
    ),
    Case(
        WEIGHTS,
        "a checkpoint of another network",
        weights(state_of("test_vit")),
        f"error: weights.pth does not fit {NET}: missing conv1.0.weight and … more; unexpected cls_token and … more",
    ),
    Case(
        WEIGHTS,
        "a head of 10 classes",
        network(10),
        "error: net.py:build has 10 outputs, and no class list of ImageNet has 10 classes: name the class of each output in a text file (--classes FILE), or choose weights trained on ImageNet",
    ),
    Case(
        WEIGHTS,
        "a class file of another length",
        network(10, classes=("pets.txt", "-\nbear\ncat\ndog\nbird\n")),
        "error: net.py:build has 10 outputs, but there are 5 classes of pets.txt: the file must have one line per output",
    ),
    Case(
        WEIGHTS,
        "a class file of one category",
        network(5, classes=("cats.txt", "cat\n" * 5)),
        "error: classes of cats.txt: of the 16 categories its 5 outputs can answer only 'cat'; two are needed for a choice between shape and texture",
    ),
    Case(
        WEIGHTS,
        "a network of 4 channels",
        network(1000, channels=4),
        "error: net.py:build takes images of 4 channels, but the stimuli are photographs: take a network of 3 channels, which is shown their colours, or of 1 channel, which is shown their lightness",
    ),
    Case(
        WEIGHTS,
        "NaN in the weights",
        weights(not_a_number),
        f"error: {NET} answers to … with numbers that are not finite; its weights are damaged",
    ),
    Case(
        WEIGHTS,
        "no connection: no network is left",
        lambda place: ["--model", "resnet152.tv_in1k", *data(place)],
        "error: no network is left: no trained weights are available; --weights random takes untrained ones",
    ),
    Case(
        ANSWERS,
        "no such CSV",
        lambda place: ["--from-csv", "no.csv", *data(place)[2:4]],
        "error: cannot read no.csv: No such file or directory",
    ),
    Case(
        ANSWERS,
        "a folder without CSVs",
        lambda place: ((place / "new").mkdir(), ["--from-csv", str(place / "new"), *data(place)[2:4]])[1],
        "error: …new holds no CSV; name raw-data CSVs of the toolbox, or their folder",
    ),
    Case(ANSWERS, "an empty CSV", csv(lambda text: ""), "error: …net.csv is empty; a raw-data CSV has the columns …"),
    Case(
        ANSWERS,
        "no rows",
        csv(lambda text: text.splitlines()[0] + "\n"),
        "error: …net.csv holds no rows; a raw-data CSV has one observer and one row per trial",
    ),
    Case(
        ANSWERS,
        "columns are missing",
        csv(lambda text: text.replace("object_response", "answer").replace("imagename", "file")),
        "error: …net.csv lacks the columns object_response, imagename; a raw-data CSV has subj, session, …",
    ),
    Case(
        ANSWERS,
        "an unknown answer",
        csv(lambda text: text.replace("NaN,cat,cat", "NaN,tiger,cat", 1)),
        "error: …net.csv: unknown answer 'tiger'; it must be 'na' or one of airplane, …",
    ),
    Case(
        ANSWERS,
        "a wrong category",
        csv(lambda text: text.replace("NaN,cat,cat", "NaN,cat,dog", 1)),
        "error: …net.csv: the category of 'cat…' is given as 'dog'",
    ),
    Case(
        ANSWERS,
        "the same trial twice",
        csv(lambda text: text + text.splitlines()[-1] + "\n"),
        "error: …net.csv: image 'truck…' is answered twice by 'net'",
    ),
    Case(
        ANSWERS,
        "two networks in one file",
        csv(lambda text: text.replace("net,1,7,", "resnet,1,7,")),
        "error: …net.csv holds 2 observers (net, resnet); a raw-data CSV has one observer and one row per trial",
    ),
    Case(
        ANSWERS,
        "a file that is not text",
        lambda place: (
            (place / "net.csv").write_bytes(b"\xff\xfe\x00" * 50),
            ["--from-csv", str(place / "net.csv"), *data(place)[2:4]],
        )[1],
        "error: …net.csv is not a CSV: …",
    ),
    Case(
        ANSWERS,
        "a folder of people's answers that does not exist",
        options("--humans", "nowhere"),
        "error: no folder nowhere; --humans must hold the raw-data CSVs of people (subject-*)",
    ),
    Case(
        ANSWERS,
        "a folder without people's answers",
        lambda place: [*options()(place), *answers_of_someone(place)],
        "error: …people holds no person's CSV (their subj begins with 'subject-')",
    ),
    Case(
        ANSWERS,
        "a probabilities file that does not exist",
        from_probabilities(lambda p: None),
        "error: …net.probabilities.npz does not exist; name a .probabilities.npz that shapebias.run wrote",
    ),
    Case(
        ANSWERS,
        "damaged probabilities",
        from_probabilities(lambda p: p.write_text("x")),
        "error: …net.probabilities.npz is not a probabilities file of shapebias.run: …",
    ),
    Case(
        FILES,
        "an output folder that is a file",
        lambda place: ((place / "out").write_text(""), csv(lambda text: text)(place))[1],
        "error: cannot write …: …; name a folder you may write to",
        existing=True,
    ),
    Case(
        FILES,
        "a full disk",
        options(),
        "error: cannot write …: No space left on device; make room, or name another folder",
        2,
        full_disk,
    ),
    Case(
        FILES,
        "an unfinished run",
        earlier(),
        "error: …partial.npz holds an unfinished run; --resume continues it, --overwrite starts again",
        existing=True,
    ),
    Case(
        FILES,
        "an unfinished run of another configuration",
        earlier(after=("--resume", "--seed", "1")),
        "error: …partial.npz is of another run (weights.seed: 0 -> 1); start again with --overwrite",
        existing=True,
    ),
]

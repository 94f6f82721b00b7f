"""All commands and Python blocks in the README and the documentation work: each of them is run.

Files that a reader would replace exist (`photos/`, `mine.pth`, ...), networks are replaced by small ones, and images
are reduced. A block after `<!-- not run: reason -->` needs something that a test lacks (a download, a GPU, minutes):
its commands are only parsed by the program's own parser, and its Python is only compiled.
"""

import contextlib
import importlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from code_blocks import Block, code_blocks, commands
from matplotlib.figure import Figure
from PIL import Image
from support import ROOT, fits

from replknet import load_model
from replknet.foreign import is_foreign
from runkit.groups import expand_groups
from shapebias.answers.observers import write_raw_data
from shapebias.network import inference
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_1K
from shapebias.stimuli.images import read_stimuli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
save = Figure.savefig
PARSERS = {  # program -> the module that builds its parser
    "erf.visualize": "erf.options",
    "erf.claims": "claims.command",
    "shapebias.run": "shapebias.options",
    "shapebias.reliance": "shapebias.reliance",
    "shapebias.benchmark": "shapebias.benchmark",
    "shapebias.relate": "htmlreport.relate",
    "shapebias.sensitivity": "shapebias.sensitivity",
    "htmlreport": "htmlreport",
    "replknet.train": "replknet.train",
    "replknet.evaluate": "replknet.evaluate",
}
CONSOLE_SCRIPTS = {"erf": "erf.visualize", "shapebias": "shapebias.run"}
SMALLER = {  # as shown -> as run
    r"replknet31b(\.in1k)?": "tf_efficientnet_lite0.in1k",
    r"resnet101\.tv_in1k": "tf_efficientnet_lite1.in1k",
    r"resnet152\.tv_in1k": "tf_efficientnet_lite1.in1k",
    r"swin_base_patch4_window7_224\.ms_in1k": "test_convnext",
    "swin_tiny_patch4_window7_224": "test_vit2",
    r"vit_tiny_patch16_224\.augreg_in21k_ft_in1k": "test_vit",
    "resnet50": "test_resnet",
    r"cuda:\d": "cpu",
    "--layer all": "--layer 0 last",
}
SMALL = ["--size", "64", "--num-images", "2"]  # of an option given twice argparse takes the last
# what an earlier command has made is kept where it is the same, so that commands share their work
GOES_ON = ["--resume", "--overwrite"]

# timm warns of a deprecated spelling when it builds some networks; not ours to mend
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.usefixtures("no_network")]


def guess(model, stimuli, *, name, classes=IMAGENET_1K, **_) -> np.ndarray:
    """Stand-in for `shapebias.network.inference.predict`: probabilities that depend only on the network's name."""
    draws = np.random.default_rng(len(name)).random((len(stimuli), classes.num_classes), np.float32)
    return draws / draws.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def things(tmp_path_factory, benchmark_folder) -> Path:
    """A folder with everything that the pages assume, including results of both tools."""
    folder = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)).save(folder / "photos" / f"{i}.png")
    network = load_model("test_resnet", "random").model
    for name in ("mine.pth", "epoch-10.pth", "epoch-90.pth"):
        torch.save(network.state_dict(), folder / name)
    torch.save(
        {f"backbone.{key}": value for key, value in network.state_dict().items() if "fc." not in key},
        folder / "segmenter.pth",
    )
    # the file that the page "a network of your own" shows
    page = code_blocks(ROOT / "docs" / "how-to" / "own-network.md")
    (folder / "net.py").write_text(next(block.text for block in page if block.language == "python"), encoding="utf-8")
    page = code_blocks(ROOT / "docs" / "how-to" / "own-images.md")
    code = next(block.text for block in page if block.language == "python")
    (folder / "spectral.py").write_text(code, encoding="utf-8")
    page = code_blocks(ROOT / "docs" / "how-to" / "other-classes.md")
    code = next(block.text for block in page if block.language == "python")
    (folder / "pets.py").write_text(code, encoding="utf-8")
    (folder / "pets.txt").write_text(next(block.text for block in page if not block.language), encoding="utf-8")
    (folder / "bands").mkdir()
    for i in range(3):
        np.save(folder / "bands" / f"{i}.npy", rng.random((4, 60, 50), np.float32))
    (folder / "val").mkdir()
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).save(folder / "val" / f"{i}.png")
    (folder / "val.txt").write_text("photos/1.png\nphotos/0.png\n", encoding="utf-8")
    page = code_blocks(ROOT / "docs" / "how-to" / "reliance.md")
    code = next(block.text for block in page if block.language == "python")
    (folder / "classifier.py").write_text(code, encoding="utf-8")
    for name in ("benign", "malignant"):
        (folder / "my-classes" / name).mkdir(parents=True)
        for i in range(4):
            image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
            image.save(folder / "my-classes" / name / f"{i}.png")
    torch.save(load_model(f"{folder / 'net.py'}:build").model.state_dict(), folder / "unet.pth")
    for name in ("cue-conflict", "cache/cue-conflict"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(benchmark_folder)
    stimuli = read_stimuli(benchmark_folder)
    (folder / "human" / "cue-conflict").mkdir(parents=True)
    write_raw_data(folder / "human/cue-conflict/1.csv", "subject-01", stimuli, [item.shape for item in stimuli])
    for shape in CATEGORIES:
        (folder / "my-stimuli" / shape).mkdir(parents=True)
        for item in [item for item in stimuli if item.shape == shape][:2]:
            (folder / "my-stimuli" / shape / item.name).symlink_to(item.path)
    networks = ["--model", "tf_efficientnet_lite0.in1k", "tf_efficientnet_lite1.in1k"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(inference, "predict", guess)
        run("erf.visualize", networks)
        run("shapebias.run", [*networks, "--stimuli", "cue-conflict", "--humans", "human/cue-conflict"])
    return folder


@pytest.fixture
def reader(things, tmp_path, monkeypatch) -> None:
    """Run as the reader of a page, in a separate folder."""
    for path in things.iterdir():
        if path.name != "figures":
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(things / "figures", tmp_path / "figures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLKNET_CACHE", str(things / "cache"))
    monkeypatch.setattr(inference, "predict", guess)
    monkeypatch.setattr(Figure, "savefig", touch)


def touch(figure: Figure, target, **options) -> None:
    """Create a picture's file without drawing, which has its own tests and would take half of the time."""
    if isinstance(target, str | Path):
        Path(target).touch()
    else:  # a figure for the HTML page
        save(figure, target, **options)


def run(program: str, arguments: list[str]) -> None:
    """Run a command in this process, on a small scale."""
    if "--model" in arguments:
        small = SMALL[:2] if "--until" in arguments else SMALL  # which needs ten images
        arguments = [*arguments, *(small if program == "erf.visualize" else []), *GOES_ON]
    module = importlib.import_module(program)
    if not hasattr(module, "main"):  # a package: its `__main__` takes it from where the parser is
        module = importlib.import_module(PARSERS[program])
    assert module.main(arguments) == 0, f"python -m {program} {' '.join(arguments)}"


def smaller(text: str) -> str:
    for shown, small in SMALLER.items():
        text = re.sub(rf"(?<![\w.]){shown}(?![\w.])", small, text)
    return text


def expand(word: str) -> list[str]:
    """Expand a word with a star as the shell does."""
    return sorted(map(str, Path().glob(word))) or [word] if "*" in word else [word]


def program_of(words: list[str]) -> tuple[str, list[str]] | None:
    """Program and arguments of `python -m program ...`, `torchrun ... -m program ...`, or a console script."""
    if words[0] in CONSOLE_SCRIPTS:
        return CONSOLE_SCRIPTS[words[0]], words[1:]
    if words[0] in ("python", "torchrun") and "-m" in words:
        at = words.index("-m") + 1
        return words[at], words[at + 1 :]
    return None


def check(words: list[str]) -> None:
    """Check a command as far as possible without running it."""
    program, arguments = program_of(words) or ("", [])
    if program in PARSERS:
        options = importlib.import_module(PARSERS[program]).build_parser().parse_args(arguments)
        for name in filter(lambda name: not is_foreign(name), expand_groups(getattr(options, "model", None) or ())):
            assert timm.list_models(name, include_tags="." in name), f"there is no network {name}"
    if words[0].startswith("scripts/"):
        assert os.access(ROOT / words[0], os.X_OK), f"{words[0]} is no script"


def run_block(block: Block, names: dict[str, object]) -> str:
    """Run a block and return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if block.language == "python":
            exec(compile(smaller(block.text), f"line {block.line}", "exec"), names)
        else:
            for words in commands(block.text):
                check(words)
            for words in commands(smaller(block.text)):
                program, arguments = program_of(words) or ("", [])
                if words != ["wait"]:
                    assert program in PARSERS, f"{' '.join(words)}: neither run nor behind <!-- not run: reason -->"
                    run(program, [part for word in arguments for part in expand(word)])
    return printed.getvalue()


def pairs(blocks: list[Block]) -> Iterator[tuple[Block, Block | None]]:
    """Each code block, with the `text` block after it, which shows its output."""
    for block, after in zip_longest(blocks, blocks[1:]):
        if block.language in ("sh", "console", "python"):
            yield block, after if after and after.language == "text" else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("reader")
def test_page(page):
    names: dict[str, object] = {"__name__": "__main__"}
    for block, output in pairs(code_blocks(page)):
        if block.not_run:
            if block.language == "python":
                compile(block.text, f"{page}:{block.line}", "exec")
            else:
                for words in commands(block.text):
                    check(words)
            continue
        printed = run_block(block, names)
        if output:
            assert fits(output.text, printed), f"{page.name}:{block.line} printed\n{printed}"


def test_the_pages_show_commands():
    blocks = [block for page in PAGES for block in code_blocks(page) if block.language == "sh"]
    found = [program_of(words) for block in blocks for words in commands(block.text)]
    programs = [program for program, _ in filter(None, found)]
    assert set(PARSERS) <= set(programs)
    assert len(programs) >= 25


def test_wrong_commands_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: a reason -->\n```sh\nA=1 python -m erf.visualize --modle x  # comment\n```\n")
    (block,) = code_blocks(page)
    assert block.not_run == "a reason"
    (words,) = commands(block.text)
    assert words == ["python", "-m", "erf.visualize", "--modle", "x"]
    with pytest.raises(SystemExit):
        check(words)
    with pytest.raises(AssertionError, match="neither run nor"):
        run_block(Block(1, "sh", "rm -r /\n", ""), {})

"""Mistakes on a command line: short messages that suggest the intended name, for every command."""

import importlib
import subprocess
import sys

import pytest
from support import ROOT

from runkit.parser import Parser, nearest

COMMANDS = {
    "erf.visualize": "erf.options",
    "shapebias.run": "shapebias.options",
    "shapebias.reliance": "shapebias.reliance",
    "shapebias.benchmark": "shapebias.benchmark",
    "shapebias.relate": "htmlreport.relate",
    "shapebias.sensitivity": "shapebias.sensitivity",
    "erf.claims": "claims.command",
    "htmlreport": "htmlreport.command",
    "replknet.train": "replknet.train",
    "replknet.evaluate": "replknet.evaluate",
}


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="python -m tool")
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--scale", choices=("decades", "published"))
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modle", "x"], "there is no option --modle; did you mean --model?"),
        (["--modle=x"], "there is no option --modle; did you mean --model?"),
        (["--model", "x", "--Scale", "decades"], "there is no option --Scale; did you mean --scale?"),
        (["--model", "x", "--nonsense"], "there is no option --nonsense"),
        (["--model", "x", "--scale", "decade"], "argument --scale: invalid choice: 'decade' (did you mean decades?)"),
        (["--model", "x", "--scale", "8"], "argument --scale: invalid choice: '8' (choose from decades, published)"),
        ([], "the following arguments are required: --model"),
    ],
)
def test_a_mistake_takes_two_lines(parser, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(arguments)
    usage, error = capsys.readouterr().err.splitlines()
    assert usage == "usage: python -m tool [options]; python -m tool --help explains them"
    assert error == f"python -m tool: error: {message}"


def test_what_argparse_takes_is_taken(parser):
    assert parser.parse_args(["--mod", "x", "--sc=decades"]).scale == "decades"  # beginnings of options
    assert parser.parse_args(["--model", "-1", "--no option"]).model == ["-1", "--no option"]  # negative; with a space
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--model", "x", "--", "--modle"]).rest == ["--modle"]


def test_the_nearest_word():
    assert nearest("--colums", ["--columns", "--cmap"]) == "--columns"
    assert nearest("Random", ["pretrained", "random"]) == "random"
    assert nearest("xyz", ["pretrained", "random"]) == ""


@pytest.mark.parametrize("module", COMMANDS.values(), ids=COMMANDS)
def test_every_command_has_short_messages(module, capsys):
    parser = importlib.import_module(module).build_parser()
    option = max(parser._option_string_actions, key=len)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([f"{option}x"])
    err = capsys.readouterr().err
    assert f"there is no option {option}x; did you mean {option}?" in err
    assert len(err.splitlines()) == 2


def test_a_mistake_is_answered_before_anything_large_is_loaded():
    code = (
        "import sys\nfrom erf.visualize import main\ntry:\n    main(['--modle', 'x'])\nexcept SystemExit as end:\n"
        "    print(end.code, [name for name in ('torch', 'timm', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert done.stdout.strip() == "2 []"

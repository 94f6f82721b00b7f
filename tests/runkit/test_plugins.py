"""Code named by the user: files and modules, and messages if there is none."""

import sys

import pytest

from runkit import UserError
from runkit.plugins import is_plugin, load_plugin, own_sources, words_of


@pytest.mark.parametrize(
    ("text", "plugin"),
    [
        ("net.py:build", True),
        ("../my nets/net.py:build", True),
        ("torch.nn:Identity", True),
        ("timm:create_model", True),
        ("resnet50", False),
        ("resnet50.tv_in1k", False),
        ("hf-hub:timm/resnet50.a1_in1k", False),
        ("torchvision/resnet50", False),
        ("net.py:two words", False),
    ],
)
def test_what_names_code(text, plugin):
    assert is_plugin(text) is plugin


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file that imports its neighbour, as users' networks do."""
    (tmp_path / "neighbour_of_net.py").write_text("FACTOR = 3\n", encoding="utf-8")
    (tmp_path / "net_that_is_mine.py").write_text(
        "from dataclasses import dataclass\nfrom neighbour_of_net import FACTOR\n\n\n"
        "@dataclass\nclass Net:\n    factor: int = FACTOR\n\n\ndef build():\n    return Net()\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("neighbour_of_net", "net_that_is_mine", "broken_net"):
        sys.modules.pop(name, None)


def test_a_file_finds_its_neighbours(folder):
    assert load_plugin(f"{folder / 'net_that_is_mine.py'}:build")().factor == 3


def test_a_module():
    import json

    assert load_plugin("json:loads") is json.loads


def test_what_is_not_there(folder):
    with pytest.raises(UserError, match=r"none\.py: there is no such file"):
        load_plugin(f"{folder / 'none.py'}:build")
    with pytest.raises(UserError, match=r"has no 'bild'; it has dataclass, Net, build"):
        load_plugin(f"{folder / 'net_that_is_mine.py'}:bild")
    with pytest.raises(UserError, match=r"cannot import no_such_package: No module named 'no_such_package'"):
        load_plugin("no_such_package:build")


def test_a_file_that_fails_says_why(folder):
    (folder / "broken_net.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"importing .*broken_net\.py failed: ZeroDivisionError: division by zero"):
        load_plugin(f"{folder / 'broken_net.py'}:build")


@pytest.mark.parametrize(
    ("code", "said"), [("", r"sys\.exit\(\)"), ("0", r"sys\.exit\(0\)"), ("'no'", r"sys\.exit\('no'\)")]
)
def test_a_file_that_would_end_the_program_is_named(folder, code, said):
    (folder / "broken_net.py").write_text(f"import sys\nsys.exit({code})\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"importing .*broken_net\.py failed: it calls {said}"):
        load_plugin(f"{folder / 'broken_net.py'}:build")


def test_an_error_is_told_in_one_line():
    assert words_of(ValueError("one\ntwo\n\nthree")) == "ValueError: one two"
    assert words_of(AssertionError("37 is odd")) == "37 is odd"
    assert words_of(AssertionError()) == "AssertionError"


def test_the_files_that_a_file_imports(tmp_path, monkeypatch):
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "net.py").write_text(
        "import json\nimport torch\nimport erf\nfrom . import layers\nfrom .parts.norm import SCALE\n", encoding="utf-8"
    )
    (package / "layers.py").write_text("import package_of_mine.net  # in a circle\n", encoding="utf-8")
    (package / "parts").mkdir()
    (package / "parts" / "__init__.py").write_text("", encoding="utf-8")
    (package / "parts" / "norm.py").write_text("SCALE = 2\n", encoding="utf-8")
    (package / "unused.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = own_sources(package / "net.py", "package_of_mine")
    assert found[0] == package / "net.py"
    names = sorted(path.relative_to(package).as_posix() for path in found)
    assert names == ["__init__.py", "layers.py", "net.py", "parts/__init__.py", "parts/norm.py"]
    for name in [name for name in sys.modules if name.startswith("package_of_mine")]:
        sys.modules.pop(name)

"""Static checks of the source: directions of imports, types, style, and the declarations of pyproject.toml."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["mypy"]["packages"]


def run_tool(*command: str) -> None:
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert program, f"{command[0]} is not installed: pip install --group test"
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_keep_their_directions():
    run_tool("lint-imports", "--no-logo", "--no-cache")


def test_rooms_without_torch_are_imported_without_it():
    """The contract's exceptions are imports within functions; importing the modules loads neither torch nor timm."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["id"] == "no-torch")
    rooms = [re.escape(room).replace(r"\*\*", r".+").replace(r"\*", r"[^.]+") for room in contract["source_modules"]]
    paths = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    chosen = sorted(name for name in names if any(re.fullmatch(room, name) for room in rooms))
    assert {"erf", "erf.sweep", "runkit.sweep", "shapebias.run", "shapebias.figures.page"} <= set(chosen)
    code = f"""
import importlib, sys
for name in {chosen}:
    importlib.import_module(name)
    assert not {{*{contract["forbidden_modules"]}}} & {{*sys.modules}}, name
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


COMMANDS = [
    *("erf.visualize", "erf.claims", "shapebias.run", "shapebias.reliance", "shapebias.benchmark", "shapebias.relate"),
    *("shapebias.sensitivity", "shapebias.toolbox", "htmlreport", "replknet.train", "replknet.evaluate"),
    "replknet.evaluate",
]


HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "matplotlib",
    "seaborn",
    "scipy",
    "skimage",
    "pandas",
    "cv2",
    "numba",
    "llvmlite",
)


def test_help_of_every_command_loads_nothing_that_takes_long():
    """PyTorch alone takes three seconds, and timm six."""
    code = f"""
import runpy, sys
for name in {COMMANDS}:
    sys.argv, sys.orig_argv = [name, "--help"], ["python", "-m", name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        assert ending.code == 0, name
    loaded = {{*{HEAVY}}} & {{*sys.modules}}
    assert not loaded, (name, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS) - 1  # the toolbox is a module alone, which says how it is used


USER = """import erf, shapebias
reveal_type(erf.measure)
reveal_type(shapebias.compare([]))
reveal_type(shapebias.measure({}).as_dict()["accuracy"])
erf.nothing
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="NumPy and pandas for older Pythons have other type hints")
def test_types(tmp_path):
    """Types of our code, and as seen by a user's type checker: one run of mypy for both, as it reads all libraries."""
    (tmp_path / "user_of_both_tools.py").write_text(USER, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "-m", "user_of_both_tools"]
    command += [part for package in PACKAGES for part in ("-p", package)]
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    lines = done.stdout.splitlines()
    ours = [line for line in lines if "user_of_both_tools" not in line]
    assert not ours, "\n".join(ours)
    shown = [line.partition(": ")[2] for line in lines]
    expected = ["erf.measures.summary.Measured", "shapebias.results.comparison.Comparison", "float | None", "nothing"]
    assert len(shown) == len(expected), done.stdout + done.stderr
    for line, said in zip(shown, expected, strict=True):
        assert said in line
    assert done.returncode == 1  # for `erf.nothing`, which is the last line


@pytest.mark.parametrize("command", [("check", "--quiet"), ("format", "--check", "--quiet")], ids=" ".join)
def test_style(command):
    run_tool("ruff", *command, ".")


def test_contracts_and_mypy_know_every_package():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks"}
    assert folders == set(PACKAGES) == set(PROJECT["tool"]["importlinter"]["root_packages"])


def imported(path: Path) -> set[str]:
    """The top-level names of all imports in a file, on any line."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def names_of(requirements: Iterable) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements if isinstance(text, str)}


@cache
def installed() -> Mapping[str, list[str]]:
    """Top-level module -> the distributions that may provide it."""
    return packages_distributions()


def undeclared(folders: list[str], declared: set[str], known: set[str]) -> dict[str, list[str]]:
    """Imported name -> files, for names that neither Python nor a declared distribution provides."""
    owners = installed()
    missing: dict[str, list[str]] = {}
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for name in imported(path) - sys.stdlib_module_names - known:
            if not {canonicalize_name(owner) for owner in owners.get(name, [name])} & declared:
                missing.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return missing


def test_what_is_imported_is_declared():
    project = PROJECT["project"]
    declared = names_of(project["dependencies"])
    declared |= names_of(itertools.chain(*project["optional-dependencies"].values()))
    ours = {*PACKAGES, "triton"}  # Triton comes with PyTorch's CUDA builds, and is imported where it is there
    assert undeclared(PACKAGES, declared, ours) == {}
    groups = PROJECT["dependency-groups"]
    declared |= names_of(groups["test"])
    ours |= {"benchmarks", *(path.stem for folder in ("tests", "scripts") for path in (ROOT / folder).rglob("*.py"))}
    ours |= {"openerf"}  # benchmarks/erf_worker.py says how to install it
    assert undeclared(["tests", "benchmarks", "scripts"], declared, ours) == {}


def test_what_is_published_names_no_repository():
    """An index refuses a wheel whose metadata contain a direct reference."""
    project = PROJECT["project"]
    published = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    assert [text for text in published if Requirement(text).url] == []


@pytest.mark.parametrize("module", ["erf.options", "runkit", "replknet.ops.layout", "test_static", "conftest"])
def test_a_warning_of_ours_is_an_error(module):
    with pytest.raises(UserWarning, match="of ours"):
        warnings.warn_explicit("of ours", UserWarning, f"{module}.py", 1, module)


def test_a_warning_that_our_code_raises_is_an_error():
    from erf import options

    with pytest.raises(DeprecationWarning):
        exec("import warnings; warnings.warn('out of date', DeprecationWarning)", vars(options))


@pytest.mark.parametrize("module", ["torch._dynamo.utils", "timm.models", "erfa", "pandas.core"])
def test_a_warning_of_a_dependency_is_shown_only(module):
    with warnings.catch_warnings(record=True) as shown:
        warnings.warn_explicit("of another", FutureWarning, f"{module}.py", 1, module)
    assert [str(warning.message) for warning in shown] == ["of another"]

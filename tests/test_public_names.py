"""The packages' public names: those shown by `dir`, those that an editor sees, and that both are the same.

The types that a type checker infers for them are tested in `tests/test_static.py`.
"""

import ast
import subprocess
import sys

import pytest
from support import ROOT

import erf
import shapebias


@pytest.mark.parametrize("package", [erf, shapebias], ids=lambda package: package.__name__)
def test_dir_shows_the_public_names_and_each_can_be_had(package):
    assert dir(package) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__module__.startswith(f"{package.__name__}.")
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


@pytest.mark.parametrize("package", [erf, shapebias], ids=lambda package: package.__name__)
def test_the_stub_exports_what_it_imports(package):
    tree = ast.parse((ROOT / package.__name__ / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    (exported,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(imported) == sorted(exported) == sorted(package.__all__)


def test_a_room_does_not_hide_a_function():
    """`erf.measures` is a subpackage and `erf.measure` a function, whichever is imported first."""
    code = (
        "import erf.measures.summary, erf; assert callable(erf.measure) and erf.measures.summary.measure is erf.measure"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_package_tells_type_checkers_that_it_is_typed():
    for package in ROOT.glob("*/__init__.py"):
        assert package.parent.name == "benchmarks" or package.with_name("py.typed").is_file()

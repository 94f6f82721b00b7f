"""The wheel contains every module and every data file of the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import ROOT

pytest.importorskip("build", reason="needs the package build (dependency group dev)")
PROGRAMS = ("erf.visualize", "erf.claims", "shapebias.run", "shapebias.relate", "shapebias.sensitivity", "htmlreport")
PACKAGES = ("claims", "erf", "htmlreport", "replknet", "runkit", "shapebias")


DATA = (
    ("erf", "__init__.pyi"),
    ("erf.results", "result.schema.json"),
    ("runkit.html", "templates/page.html"),
    ("shapebias", "py.typed"),
    ("shapebias.results", "comparison.schema.json"),
)
INSTALLED = f"""
import importlib.resources, runpy, sys
import erf, runkit
print(*(package.__path__[0] for package in (erf, runkit)), flush=True)
for package, name in {DATA}:
    importlib.resources.files(package).joinpath(name).read_text("utf-8")

def run(program, *arguments):
    sys.argv, sys.orig_argv = [program, *arguments], ["python", "-m", program, *arguments]
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        assert not ending.code, (program, ending.code)

for program in {PROGRAMS}:
    run(program, "--help")
# trained weights are found by the manifest, a data file
run("erf.visualize", "--model", "tf_efficientnet_lite0.in1k", "--num-images", "1", "--size", "64")
"""
"""What is done with the installed wheel, in one process: most of the time would go into imports otherwise."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built offline from a copy of the tracked files, so that no other files get in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked("pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


def tracked(*paths: str) -> list[str]:
    found = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, encoding="utf-8")
    if found.returncode:
        pytest.skip("not a git checkout")
    return found.stdout.splitlines()


def test_every_module_and_data_file_is_inside(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == set(tracked(*PACKAGES))


def test_an_index_takes_it(wheel):
    """Tests what an index checks before it accepts a wheel: the metadata, and whether the README can be rendered."""
    twine = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", str(wheel)]
    checked = subprocess.run(twine, capture_output=True, encoding="utf-8")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert "Author: The replknet-analysis contributors\n" in metadata
    assert "Project-URL: Repository, https://github.com/" in metadata
    assert "Requires-Dist" in metadata
    assert " @ " not in metadata.partition("\n\n")[0]  # a direct reference


def test_the_installed_wheel_works_elsewhere(wheel, tmp_path):
    """Away from the checkout: data files are found, every command line answers, and a network is measured."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    subprocess.run([*pip, str(wheel)], check=True)

    done = subprocess.run(
        [sys.executable, "-c", INSTALLED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n", 1)[0] == f"{tmp_path / 'erf'} {tmp_path / 'runkit'}"
    assert done.stdout.count("usage: ") == len(PROGRAMS)
    assert (tmp_path / "figures" / "erf" / "tf_efficientnet_lite0.in1k.json").is_file()

"""The wheel holds what the checkout holds: every module and every data file."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import ROOT

pytest.importorskip("build", reason="needs the package build (dependency group dev)")
PACKAGES = ("erf", "htmlreport", "replknet", "runkit", "shapebias")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the tracked files, so that nothing that lies about gets in; without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked("pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("*.whl"))


def tracked(*paths: str) -> list[str]:
    found = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git checkout")
    return found.stdout.splitlines()


def test_every_module_and_data_file_is_inside(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == set(tracked(*PACKAGES))


def test_the_installed_wheel_works_elsewhere(wheel, tmp_path):
    """Unpacked away from the checkout: both command lines answer, and data files are found."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import erf, runkit.manifest, shapebias, importlib.resources as files;"
        "print(erf.__file__, shapebias.__file__);"
        "assert runkit.manifest.known_files('packaged_weights');"
        "assert files.files('erf').joinpath('result.schema.json').is_file();"
        "assert files.files('runkit').joinpath('templates', 'page.html').is_file()"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path / "site")) == 2
    for program in ("erf.visualize", "shapebias.run", "shapebias.relate", "shapebias.sensitivity", "htmlreport"):
        command = [sys.executable, "-m", program, "--help"]
        assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode == 0

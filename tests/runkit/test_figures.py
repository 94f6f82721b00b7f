"""Drawing of figures: the user's backend and settings are kept, fonts are TrueType, and text stays text."""

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import zlib

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from example_results import make_erf_result
from matplotlib.figure import Figure
from support import ROOT

import erf
from erf.results.files import save_result
from runkit.figures import STYLE, StyledFigure, axes_or_new, new_figure, save_figure, style

DRAWN = """
import sys
import matplotlib.pyplot  # without a display it drops a backend that needs one by itself
chosen = lambda: matplotlib.rcParams._get("backend")
before = chosen()
import erf, erf.figures.page, htmlreport.command, htmlreport.relation_plot, shapebias.figures.page
from erf.visualize import main
output, formats, *paths = sys.argv[1:]
assert main(["--from-npz", *paths, "--output", output, "--formats", *formats.split(), "--report"]) == 0
assert chosen() is before, chosen()
"""
CLAIMED = """
from claims.catalogue import CLAIMS
assert all(claim.experiment() for claim in CLAIMS)
assert chosen() is before, chosen()
"""
PLOTTED = """
import matplotlib.pyplot as plt
ax = erf.plot(erf.load_result(paths[0]))
assert plt.get_fignums() == [1] and ax.figure is plt.gcf()
print(matplotlib.get_backend().lower(), type(ax.figure.canvas).__module__)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Files of two results."""
    paths = [tmp_path_factory.mktemp("results") / f"{name}.npz" for name in ("wide", "narrow")]
    for path, sigma in zip(paths, (14, 5), strict=True):
        save_result(make_erf_result(path.stem, sigma, random=sigma == 5), path)
    return paths


@pytest.fixture
def figure():
    """A figure with a line, a title in the style's font, and a name in bold."""
    with new_figure(3, 2) as figure:
        ax = figure.subplots()
        ax.plot([0, 1], label="net")
        ax.set_title("fraction of shape decisions", fontweight="bold")
        ax.legend()
    return figure


@pytest.mark.parametrize("backend", [None, "svg", "tkagg"])
def test_the_backend_stays_the_users_and_no_display_is_needed(saved, tmp_path, backend):
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
    environment |= {"MPLBACKEND": backend} if backend else {}
    script = DRAWN + (CLAIMED if backend is None else "")  # claims load torch: seconds
    script += PLOTTED if backend != "tkagg" else ""  # a window needs a display
    formats = ["pdf", "svg"] if backend is None else ["png"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            str(tmp_path),
            " ".join(formats),
            *map(str, saved if backend is None else saved[:1]),
        ],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    expected = {None: "agg matplotlib.backends.backend_agg", "svg": "svg matplotlib.backends.backend_svg"}
    assert backend == "tkagg" or done.stdout.splitlines()[-1] == expected[backend]
    assert {path.suffix for path in (tmp_path / "erf").iterdir()} >= {".html", *(f".{suffix}" for suffix in formats)}
    for path in (tmp_path / "erf").glob("*.pdf"):
        assert set(font_types(path.read_bytes())) == {"TrueType"}, path.name


def font_types(pdf: bytes) -> list[str]:
    """The types of fonts in a PDF, whose objects matplotlib stores in compressed streams."""
    packed = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.DOTALL)
    texts = [pdf]
    for stream in packed:
        try:
            texts.append(zlib.decompress(stream))
        except zlib.error:
            continue  # a stream that is not compressed is in the file as it is
    kinds = [kind.decode() for text in texts for kind in re.findall(rb"/Subtype\s*/(Type1|Type3|TrueType)\b", text)]
    embedded = any(b"/FontFile2" in text for text in texts)  # the outlines of a Type 42 font
    return kinds if kinds or not embedded else ["TrueType"]


def test_fonts_in_pdf_are_truetype_however_the_figure_is_saved(figure, tmp_path):
    (ours,) = save_figure(figure, tmp_path / "ours", ["pdf"])
    figure.savefig(tmp_path / "users.pdf")
    plain = Figure()
    plain.subplots()
    plain.savefig(tmp_path / "type3.pdf")
    assert "Type3" in font_types((tmp_path / "type3.pdf").read_bytes())  # what matplotlib does by itself
    for path in (ours, tmp_path / "users.pdf"):
        assert set(font_types(path.read_bytes())) == {"TrueType"}


def test_files_hold_text_a_description_and_no_date(figure, tmp_path):
    first = save_figure(figure, tmp_path / "a.b", ("png", "pdf", "svg"), description="what made it")
    assert [path.name for path in first] == ["a.b.png", "a.b.pdf", "a.b.svg"]
    assert [path.read_bytes()[:4] for path in first] == [b"\x89PNG", b"%PDF", b"<?xm"]
    assert b"fraction of shape decisions" in first[2].read_bytes()
    assert all(b"what made it" in path.read_bytes() for path in first)
    again = save_figure(figure, tmp_path / "again", ("png", "pdf", "svg"), description="what made it")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]


def test_figures_are_the_same_whatever_the_users_style(figure, tmp_path):
    with plt.style.context("dark_background"), new_figure(3, 2) as other:
        ax = other.subplots()
        ax.plot([0, 1], label="net")
        ax.set_title("fraction of shape decisions", fontweight="bold")
        ax.legend()
    (first,), (second,) = (save_figure(one, tmp_path / name, ["svg"]) for one, name in ((figure, "a"), (other, "b")))
    assert first.read_bytes() == second.read_bytes()


def test_the_users_settings_and_open_figures_stay(saved):
    plt.get_backend()  # settles the setting, which the first drawing would change otherwise
    before = plt.get_fignums()
    mine = plt.figure()
    settings = mpl.rcParams.copy()
    result = erf.load_result(saved[0])
    assert isinstance(erf.draw_comparison([result, result]), StyledFigure)
    with style():
        assert mpl.rcParams["pdf.fonttype"] == STYLE["pdf.fonttype"] == 42
    assert mpl.rcParams == settings
    assert plt.get_fignums() == [*before, mine.number]
    ax = mine.subplots()
    assert erf.plot(result, ax=ax) is ax


def test_new_axes_are_pyplots_and_drawn_in_the_style():
    with axes_or_new(None, 3, 2) as ax:
        pass
    assert ax.figure is plt.gcf()
    assert ax.xaxis.label.get_fontsize() == STYLE["axes.labelsize"]
    with axes_or_new(ax) as same:
        assert same is ax
        assert mpl.rcParams["font.size"] != STYLE["font.size"]  # on the user's Axes, the user's style


def public_functions(prefix):
    """The public functions of this project whose name has this prefix."""
    for package in ("erf", "shapebias", "htmlreport", "claims", "benchmarks"):
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if "figures" in found.name or "plot" in found.name:
                members = inspect.getmembers(importlib.import_module(found.name), inspect.isfunction)
                yield from (function for name, function in members if name.startswith(prefix))


def test_plot_takes_axes_and_draw_returns_a_figure():
    plots = {f for f in public_functions("plot") if f.__name__ != "draw_comparison"}  # but for the older name
    assert len(plots) >= 9
    for function in plots:
        signature = inspect.signature(function)
        assert signature.parameters["ax"].default is None, function
        assert signature.return_annotation.__name__ == "Axes", function
    draws = [f for f in public_functions("draw_") if f.__module__.split(".")[-1] != "observers"]
    assert len(draws) >= 8
    for function in draws:
        assert inspect.signature(function).return_annotation.__name__ == "Figure", function


def test_ipython_shows_a_result_and_a_figure_as_pictures(saved):
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    script = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import sys, erf\n"
        f"result = erf.load_result({str(saved[0])!r})\n"
        "assert 'matplotlib' not in sys.modules\n"
        "for shown in (result, erf.draw_comparison([result, result])):\n"
        "    data, _ = shell.display_formatter.format(shown)\n"
        "    print(sorted(data), data['image/png'][:4])\n"
    )
    assert interactive
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['image/png', 'text/plain'] b'\\x89PNG'"] * 2

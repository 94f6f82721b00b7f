"""The page of a report: it is self-contained, loads nothing, and escapes its input."""

import base64
import hashlib
import re

import pytest
from markupsafe import Markup

from runkit.html.page import (
    Cell,
    Row,
    Section,
    Source,
    Table,
    describe_weights,
    links_to,
    name_markup,
    render_part,
    share_facts,
    write_page,
)

EVIL = "<script>alert('x')</script> & \"co\""


def write(tmp_path, *sections):
    path = tmp_path / "report.html"
    write_page(path, "Title", sections, program="tool", arguments=["--report", "a b"])
    return path.read_text(encoding="utf-8")


def test_the_page_may_load_nothing_and_run_its_own_script_alone(tmp_path):
    page = write(
        tmp_path, Section("one", "One", Markup("<p>text</p>"), script="'use strict';", style="p { margin: 0 }")
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "'use strict';" in script
    assert "p { margin: 0 }" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "@import" not in page
    assert "url(" not in page


def test_a_script_and_a_style_come_once(tmp_path):
    sections = [Section(slug, slug, Markup(""), script="// once", style="/* once */") for slug in ("one", "two")]
    page = write(tmp_path, *sections)
    assert page.count("// once") == 1
    assert page.count("/* once */") == 1
    assert page.count("<h2 ") == 3  # and what made the page


def test_random_weights_head_the_page(tmp_path):
    assert "RANDOM WEIGHTS" not in write(tmp_path, Section("one", "One", Markup("")))
    page = write(tmp_path, Section("one", "One", Markup(""), random=("resnet18", EVIL)))
    banner = re.search(r'<p class="warning".*?</p>', page, flags=re.DOTALL)[0]
    assert "RANDOM WEIGHTS" in banner
    assert "resnet18" in banner
    assert "alert(&#39;x&#39;)" in banner
    assert page.index(banner) < page.index("<h2")


def test_the_page_says_what_made_it(tmp_path):
    page = write(tmp_path, Section("one", "One", Markup("")))
    assert "python -m tool --report &#39;a b&#39;" in page
    assert re.search(r"<dt>Written</dt><dd>20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC</dd>", page)
    assert "replknet-analysis" in page


TABLE = '{% import "parts.html" as parts %}{{ parts.table(table) }}{{ parts.sources(sources, "s") }}'


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """The shared parts of a page, with names that contain markup."""
    table = Table(
        "What it says",
        ("network", "area"),
        (Row(EVIL, (Cell("12.3%", 0.123, "[10%, 14%]"),)), Row("bare, RANDOM WEIGHTS (seed 2)", (Cell("–"),))),
    )
    source = Source(EVIL, "RANDOM WEIGHTS (seed 0)", (("Command", EVIL),), links_to([tmp_path], tmp_path / "r"))
    package = tmp_path / "tool"
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "templates" / "all.html").write_text(TABLE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return render_part("tool", "all.html", table=table, sources=[source])


def test_tables_are_marked_up_for_sorting_and_for_readers(rendered):
    assert rendered.count('<th scope="col">') == 2
    assert rendered.count('<th scope="row">') == 2
    assert "<caption>What it says</caption>" in rendered
    assert '<td data-value="0.123">12.3% <span class="note">[10%, 14%]</span></td>' in rendered
    assert "<td>–</td>" in rendered
    assert re.search(r'<th scope="row">bare <strong class="badge">RANDOM WEIGHTS \(seed 2\)</strong>', rendered)


def test_names_break_at_their_dots_and_have_random_weights_as_a_badge():
    assert name_markup("a_b.c-1") == "a_<wbr>b.<wbr>c-1"
    assert name_markup("RANDOM WEIGHTS") == '<strong class="badge">RANDOM WEIGHTS</strong>'
    assert name_markup("net (RANDOM WEIGHTS)") == 'net <strong class="badge">RANDOM WEIGHTS</strong>'
    assert name_markup("<b>, weights RANDOM.pth") == "&lt;b&gt;, weights RANDOM.<wbr>pth"


def test_what_several_have_in_common_is_said_once():
    one, two = (Source(name, "", (("Commit", "abc"), ("Images", name))) for name in "ab")
    common, rest = share_facts([one, two])
    assert common == (("Commit", "abc"),)
    assert [source.facts for source in rest] == [(("Images", "a"),), (("Images", "b"),)]
    assert share_facts([one]) == ((), [one])


def test_what_is_put_in_is_escaped(rendered):
    assert "<script>" not in rendered
    assert rendered.count("&lt;script&gt;alert") == 3


def test_links_are_relative_and_of_files_that_exist(tmp_path):
    (tmp_path / "erf").mkdir()
    file = tmp_path / "erf" / "a #1.json"
    file.touch()
    links = links_to([file, tmp_path / "erf" / "none.json"], tmp_path / "report.html")
    assert [(link.name, link.href) for link in links] == [("a #1.json", "erf/a%20%231.json")]
    assert links_to([file], tmp_path / "pages" / "report.html")[0].href == "../erf/a%20%231.json"


def test_weights_in_words():
    random = {"model": "resnet18", "label": "RANDOM WEIGHTS (seed 1)", "random": True, "init": None}
    assert describe_weights(random)[0][1].startswith("RANDOM WEIGHTS (seed 1) of resnet18")
    file = {
        "model": "resnet18",
        "source": "file",
        "random": False,
        "file": "a.pth",
        "sha256": "ab",
        "sha256_verified": "none",
    }
    assert describe_weights(file)[0][1] == "resnet18, file, a.pth, SHA-256 ab (none published)"

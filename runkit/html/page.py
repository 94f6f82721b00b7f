"""One self-contained HTML page about results: sortable tables, plots that show values, and how each figure was made.

A tool renders its sections with its own templates, which use shared parts (`templates/parts.html`). This module puts
the sections on one page. The page contains its style, its script and its pictures, and its content security policy
forbids any request. Only saved results are shown: neither torch nor a network is needed.
"""

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from runkit.console import command_line
from runkit.files import atomic_write
from runkit.provenance import describe_environment

__all__ = [
    "Cell",
    "Link",
    "Row",
    "Section",
    "Source",
    "Table",
    "describe_head",
    "describe_weights",
    "links_to",
    "name_markup",
    "read_part",
    "render_part",
    "share_facts",
    "write_page",
]

_SHARED = "runkit.html"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: The text shown.
        value: Number or string by which the column is sorted; None comes last in either direction.
        note: Smaller text below: an interval.
    """

    text: str
    value: float | str | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A row: the name in its first column, then a cell for every further column."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table with the names of its rows in the first column. `caption` says what the numbers are."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Link:
    """A link to a file: its name, and its address relative to the page."""

    name: str
    href: str


@dataclass(frozen=True)
class Source:
    """How the data of a figure were made.

    Attributes:
        name: Name of the network or observer.
        label: Its weights, in words.
        facts: Pairs of term and description: weights, data, command, commit, versions.
        files: Files that contain the numbers.
    """

    name: str
    label: str
    facts: tuple[tuple[str, str], ...]
    files: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own.

    Attributes:
        slug: Anchor of the section, and prefix of the ids inside it.
        title: Heading.
        body: HTML.
        random: Names of the results in it that have random weights.
        style, script: Additional CSS and JavaScript. Equal texts of several sections are included once.
    """

    slug: str
    title: str
    body: Markup
    random: tuple[str, ...] = ()
    style: str = ""
    script: str = ""


def read_part(package: str, name: str) -> str:
    """Text of a file in the folder `templates` of a package."""
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")


def render_part(package: str, template: str, **values: Any) -> Markup:
    """Render a template of a package, which may use the shared `parts.html`. All values are escaped."""
    loaders = [PackageLoader(name, "templates") for name in dict.fromkeys([package, _SHARED])]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["name"] = name_markup
    environment.globals["share_facts"] = share_facts
    return Markup(environment.get_template(template).render(**values))


_RANDOM = re.compile(r"(?:, | \(|^)(RANDOM WEIGHTS(?: \(seed \d+\))?)\)?$")


def name_markup(name: str) -> Markup:
    """A name with optional line breaks, and with RANDOM WEIGHTS as a badge."""
    found = _RANDOM.search(name)
    plain = escape(name[: found.start()] if found else name)
    breakable = Markup(re.sub(r"([._])(?=[^._])", r"\1<wbr>", str(plain)))
    badge = Markup('<strong class="badge">{}</strong>').format(found[1]) if found else ""
    return Markup(" ").join(filter(None, [breakable, badge]))


def write_page(path: Path, title: str, sections: Sequence[Section], *, program: str, arguments: Sequence[str]) -> None:
    """Write the page, complete or not at all.

    Args:
        title: Title of the page.
        sections: At least one section, in the order of the page.
        program, arguments: The command that writes the page.
    """
    styles = dict.fromkeys([read_part(_SHARED, "page.css"), *(section.style for section in sections)])
    scripts = dict.fromkeys([read_part(_SHARED, "page.js"), *(section.script for section in sections)])
    script = "\n".join(filter(None, scripts))
    page = render_part(
        _SHARED,
        "page.html",
        title=title,
        sections=sections,
        random=[name for section in sections for name in section.random],
        facts=[
            ("Command", command_line(program, arguments)),
            ("Written", _in_words(datetime.now(timezone.utc).isoformat(timespec="seconds"))),
            *_describe_environment(describe_environment()),
        ],
        style=Markup("\n".join(filter(None, styles))),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def links_to(files: Sequence[Path], page: Path) -> tuple[Link, ...]:
    """Links from a page to those of the given files that exist."""
    return tuple(
        Link(file.name, quote(Path(os.path.relpath(file, page.parent)).as_posix())) for file in files if file.exists()
    )


def share_facts(sources: Sequence[Source]) -> tuple[tuple[tuple[str, str], ...], list[Source]]:
    """The facts that all sources share, and the sources with the remaining facts; a single source keeps all."""
    if len(sources) < 2:
        return (), list(sources)
    common = tuple(fact for fact in sources[0].facts if all(fact in source.facts for source in sources))
    rest = [replace(s, facts=tuple(fact for fact in s.facts if fact not in common)) for s in sources]
    return common, rest


def describe_head(head: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Terms and descriptions for the head of a result, as returned by `runkit.describe_run`."""
    return [
        ("Command", head["command"]),
        ("Started", f"{_in_words(head['started'])}, took {head['seconds']:.1f} s"),
        *_describe_environment(head),
    ]


def _in_words(time: str) -> str:
    return time.replace("T", " ").replace("+00:00", " UTC")


def _describe_environment(head: Mapping[str, Any]) -> list[tuple[str, str]]:
    commit = head.get("git_commit") or "not known: not run from a checkout"
    clean = {True: "", False: ", with uncommitted changes", None: ""}[head.get("git_clean")]
    versions = ", ".join(f"{name} {version}" for name, version in head["versions"].items() if version)
    machine = head["machine"]
    return [
        ("Commit", f"{commit}{clean}"),
        ("Versions", versions),
        ("Machine", f"{machine['processor'] or 'processor not known'}, {machine['cores']} cores, {machine['system']}"),
    ]


def describe_weights(weights: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Terms and descriptions for a record of weights, as returned by `replknet.zoo.WeightsRecord.as_dict`."""
    if weights["random"]:
        return [
            ("Weights", f"{weights['label']} of {weights['model']}, drawn by: {weights.get('init') or 'not known'}")
        ]
    checked = {"full": "as published", "prefix": "its first digits as published", "none": "none published"}
    digits = f"SHA-256 {weights['sha256']} ({checked.get(str(weights.get('sha256_verified')), 'not compared')})"
    return [("Weights", f"{weights['model']}, {weights['source']}, {weights['file']}, {digits}")]

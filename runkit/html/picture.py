"""A figure on the page: matplotlib's SVG in the colours of the page, with texts for its marks.

Nothing is redrawn for the page. An element of the figure is found by its id (`Artist.set_gid`), and its text becomes
its `<title>`. The page's script shows the title at the pointer, and reads it out when arrow keys are used. Colours are
mixed with the ink and paper colours of the page, so that a figure follows its light and dark themes. Every line keeps a
contrast of more than 3 to either paper, as WCAG 2.2 requires of graphics (1.4.11); pure yellow on white has 1.4.
"""

import io
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = ["embed_figure"]

_SCALE = 170  # maximum number of page pixels for an inch of the figure
_REFERENCE = re.compile(r"^#|(?<=url\(#)")
_COLOUR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\b")
_LONG = re.compile(r"-?\d+\.\d{3,}")


def embed_figure(figure: Figure, *, slug: str, label: str, says: Mapping[str, str | Sequence[str]]) -> Markup:
    """The figure as an `<svg>` element for a page.

    Args:
        slug: Prefix of its ids, which makes them unique on the page.
        label: Description of the figure for readers who cannot see it.
        says: Maps the id of an element to its text; for a line of markers, to one text for each marker, in order.

    Raises: ValueError if the figure has no element with such an id, or another number of markers.
    """
    root = _write_svg(figure)
    elements = {element.get("id"): element for element in root.iter() if element.get("id")}
    for name, text in says.items():
        if name not in elements:
            raise ValueError(f"the figure has no element {name!r}")
        marks = [elements[name]] if isinstance(text, str) else list(elements[name].iter("use"))
        for mark, words in zip(marks, [text] if isinstance(text, str) else text, strict=True):
            title = ElementTree.Element("title")
            title.text = words
            mark.insert(0, title)
    for element in root.iter():
        _adapt(element, slug)
    width = round(_SCALE * figure.get_figwidth())
    about = {"class": "plot", "role": "group", "tabindex": "0", "aria-roledescription": "plot"}
    root.attrib = {"viewBox": root.get("viewBox", ""), "style": f"max-width: {width}px", **about}
    root.set("aria-label", f"{label}; arrow keys read the values")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _write_svg(figure: Figure) -> ElementTree.Element:
    """The figure's SVG without namespaces, and without the parts that only a separate file needs."""
    file = io.StringIO()
    figure.savefig(file, format="svg")
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = element.text and element.text.strip()
        element.tail = "\n" if element.tag == "g" else ""
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for shape in root.iterfind(".//defs/path"):
        shape.attrib.pop("style", None)  # each use of the marker has the same style, and may override it
    for child in list(root):
        if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
            root.remove(child)
    return root


def _adapt(element: ElementTree.Element, slug: str) -> None:
    """Make ids unique, use the colours of the page, and round coordinates to a hundredth of a point."""
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{slug}-{value}")
        elif name in ("style", "fill", "stroke"):
            value = _REFERENCE.sub(lambda found: found[0] + f"{slug}-", value)
            element.set(name, _COLOUR.sub(_on_page, value))
        elif name in ("href", "clip-path"):
            element.set(name, _REFERENCE.sub(lambda found: found[0] + f"{slug}-", value))
        elif name in ("d", "x", "y"):
            element.set(name, " ".join(_LONG.sub(lambda found: f"{float(found[0]):.2f}", value).split()))


def _on_page(colour: re.Match[str]) -> str:
    """A grey as a mixture of ink and paper in the same proportion; any other colour shifted towards the ink."""
    red, green, blue = (int(part, 16) for part in colour.groups())
    if max(red, green, blue) - min(red, green, blue) > 4:
        return f"color-mix(in oklab, {colour[0]} 60%, var(--ink))"
    return f"color-mix(in oklab, var(--ink) {100 - green / 2.55:.0f}%, var(--paper))"

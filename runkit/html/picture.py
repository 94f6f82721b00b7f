"""A figure on the page: the SVG that matplotlib writes, in the colours of the page, with what its marks say.

The page draws nothing again. An element of the figure is found by its id (`Artist.set_gid`), and what is said of it
becomes its `<title>`, which the page's script shows at the pointer and reads out at the arrow keys. Colours are mixed
with the page's ink and paper, so that a figure follows light and dark, and every line keeps a contrast of more than 3
to either paper, as WCAG 2.2 asks of graphics (1.4.11); yellow itself has 1.4 on white.
"""

import io
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = ["embed_figure"]

_SCALE = 170  # pixels of the page for an inch of the figure, at most
_REFERENCE = re.compile(r"^#|(?<=url\(#)")
_COLOUR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\b")
_LONG = re.compile(r"-?\d+\.\d{3,}")


def embed_figure(figure: Figure, *, slug: str, label: str, says: Mapping[str, str | Sequence[str]]) -> Markup:
    """The figure as an `<svg>` for a page.

    Args:
        slug: What its ids begin with, so that they are the only ones on the page.
        label: What is shown, for readers who do not see it.
        says: Id of an element -> what it says; of a line of markers a text for each of them, in their order.

    Raises: ValueError if the figure has no element of such an id, or not as many markers.
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
    """The figure's SVG without names of namespaces, and without what is only for a file of its own."""
    file = io.StringIO()
    figure.savefig(file, format="svg")
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = element.text and element.text.strip()
        element.tail = "\n" if element.tag == "g" else ""
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for shape in root.iterfind(".//defs/path"):
        shape.attrib.pop("style", None)  # each use of the marker has the same style, and may change it
    for child in list(root):
        if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
            root.remove(child)
    return root


def _adapt(element: ElementTree.Element, slug: str) -> None:
    """Ids of this figure, colours of the page, and coordinates to a hundredth of a point."""
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
    """A grey as the same share of ink on paper, any other colour drawn towards the ink."""
    red, green, blue = (int(part, 16) for part in colour.groups())
    if max(red, green, blue) - min(red, green, blue) > 4:
        return f"color-mix(in oklab, {colour[0]} 60%, var(--ink))"
    return f"color-mix(in oklab, var(--ink) {100 - green / 2.55:.0f}%, var(--paper))"

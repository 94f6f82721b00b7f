"""The picture of `shapebias.relate`: shape bias, and reliance if it was measured, against receptive field."""

import itertools
import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from htmlreport.relation import Network, Relation
from runkit.figure_text import count_words, list_names, software_words
from runkit.figures import PAGE_WIDTH, new_figure
from runkit.sizes import pixels_of
from shapebias.figures.caption import name_both, name_weights
from shapebias.figures.observers import PEOPLE_COLOUR, Style, choose_style
from shapebias.measures.bootstrap import Estimate

__all__ = ["caption_relation", "draw_relation"]


def draw_relation(
    relation: Relation, *, people: Estimate | None = None, field: str, width_in: float | None = None
) -> Figure:
    """Draw a point with its intervals for each network.

    The shape bias of people is drawn as a line, because their receptive field is unknown. With reliance, the figure
    also has one panel for each cue.

    Args:
        relation: Networks, in the order of the legend; untrained ones are grey and hollow.
        people: Shape bias of people with its interval.
        field: Label of the horizontal axis.
        width_in: Width in inches; None for 5 inches, or for the width of a page with reliance.
    """
    if relation.of_reliance:
        return _draw_panels(relation, people=people, field=field, width_in=width_in or PAGE_WIDTH)
    with new_figure(width_in or 5.0, 3.2) as figure:
        ax = figure.subplots()
        _plot_people(ax, people)
        _plot_shape_bias(ax, relation)
        ax.set_xlim(0, _widest(relation))
        ax.set_xlabel(field)
        ax.set_title(relation.correlation.describe().replace("; ", "\n"), fontsize=6.5)
        figure.legend(loc="outside lower center", ncols=2, fontsize=6.5, labelspacing=0.25)
    return figure


def caption_relation(relation: Relation, head: Mapping[str, Any]) -> str:
    """The caption of the picture. `head` describes the run, as returned by `runkit.describe_run`."""
    networks = relation.networks
    names = list_names([network.label for network in networks])
    biased = any(network.shape_bias.value is not None for network in networks)
    bars = "Lines through the points, and the band of people" if biased else "Lines through the points"
    return "\n".join(
        filter(
            None,
            [
                f"{count_words(len(networks), 'network', 'networks')}: {names}.",
                name_weights([name_both(network.name, network.weights) for network in networks if network.weights]),
                f"{_say_fields(relation.measured)} {bars}: 95% intervals over images.",
                software_words(head),
            ],
        )
    )


def _say_fields(measured: Mapping[str, Any]) -> str:
    """A sentence on how the receptive fields were measured; what is not named in words is in the JSON file."""
    number, (height, width) = measured.get("num_images"), pixels_of(measured["size"])
    images = f"mean of {count_words(number, 'image', 'images')} " if isinstance(number, int) else ""
    return f"Fields: {images}at {height} × {width} pixels, layer {measured['layer']}."


def _draw_panels(relation: Relation, *, people: Estimate | None, field: str, width_in: float) -> Figure:
    """Draw a panel for shape bias, if any network has it, and one for each cue, with the same horizontal axis."""
    has_bias = any(network.shape_bias.value is not None for network in relation.networks)
    panels = [*(["shape bias"] if has_bias else []), *relation.of_reliance]
    columns = min(2, len(panels)) if len(panels) != 3 else 3
    rows = -(-len(panels) // columns)
    legend = 0.15 * -(-(len(relation.networks) + 1) // 2)
    with new_figure(width_in, 2.5 * rows + legend) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for ax, name in itertools.zip_longest(axes.flat, panels):
            if name is None:
                ax.set_axis_off()
            elif name == "shape bias":
                _plot_people(ax, people)
                _plot_shape_bias(ax, relation)
                correlation = relation.correlation
            else:
                _plot_reliance(ax, relation, name)
                correlation = relation.of_reliance[name]
            if name is not None:
                words = correlation.describe().replace("; ", "\n").replace(", Kendall", ",\nKendall")
                ax.set_title(words.replace(": too few", ":\ntoo few"), fontsize=6)
        axes[0, 0].set_xlim(0, _widest(relation))
        for ax in axes[-1]:
            ax.set_xlabel(textwrap.fill(field, 38))
        found: dict[str, Any] = {}
        for ax in axes.flat:
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
        order = ["people", *(network.label for network in relation.networks)]
        labels = sorted(found, key=order.index)
        figure.legend(
            [found[label] for label in labels], labels, loc="outside lower center", ncols=2, fontsize=6.5,
            labelspacing=0.25,
        )  # fmt: skip
    return figure


def _plot_people(ax: Axes, people: Estimate | None) -> None:
    if people is not None and people.value is not None:
        if people.low is not None and people.high is not None:
            ax.axhspan(people.low, people.high, color=PEOPLE_COLOUR, alpha=0.12, linewidth=0, zorder=0)
        line: dict[str, Any] = {"color": PEOPLE_COLOUR, "linewidth": 0.9, "linestyle": (0, (4, 2))}
        ax.axhline(people.value, **line, zorder=1, label="people", gid="observer-people-average")


def _plot_shape_bias(ax: Axes, relation: Relation) -> None:
    for network, style in _styled(relation):
        _plot_network(ax, network, network.shape_bias, style, f"{style.key}-points")
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_locator(MultipleLocator(0.2))
    ax.set_ylabel("shape bias (95% intervals)")


def _plot_reliance(ax: Axes, relation: Relation, cue: str) -> None:
    for network, style in _styled(relation):
        if cue in network.reliance:
            _plot_network(ax, network, network.reliance[cue], style, f"{style.key}-{cue}-points")
    ends = [
        end
        for network in relation.networks
        for one in network.reliance.values()
        for end in (one.value, one.low, one.high)
        if end is not None
    ]
    ax.set_ylim(1.1 * min([0.0, *ends]), 1.1 * max([0.1, *ends]))  # the same for all cues
    ax.set_ylabel(f"reliance on {cue}")


def _plot_network(ax: Axes, network: Network, y: Estimate, style: Style, gid: str) -> None:
    """Draw a point with its horizontal and vertical interval, or nothing if `y` has no value."""
    x = network.field
    assert x.value is not None  # `relate` requires a value
    if y.value is None:
        return
    if x.low is not None and x.high is not None:
        ax.plot([x.low, x.high], [y.value] * 2, color=style.colour, linewidth=0.9, zorder=3)
    if y.low is not None and y.high is not None:
        ax.plot([x.value] * 2, [y.low, y.high], color=style.colour, linewidth=0.9, zorder=3)
    marker = {**style.of_marker, "markersize": 5, "markeredgewidth": 0.5}
    ax.plot([x.value], [y.value], **marker, zorder=4, label=network.label, gid=gid)


def _styled(relation: Relation) -> list[tuple[Network, Style]]:
    return [(network, choose_style(index, random=network.random)) for index, network in enumerate(relation.networks)]


def _widest(relation: Relation) -> float:
    """Right end of the horizontal axis."""
    ends = [end for network in relation.networks for end in (network.field.value, network.field.high)]
    return 1.1 * max(end for end in ends if end is not None)

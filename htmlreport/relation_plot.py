"""The picture of `shapebias.relate`: receptive field across, shape bias up, intervals both ways."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from htmlreport.relation import Relation
from runkit.figures import new_figure
from shapebias.figures.observers import PEOPLE_COLOUR, choose_style
from shapebias.measures.bootstrap import Estimate

__all__ = ["draw_relation"]


def draw_relation(relation: Relation, *, people: Estimate | None = None, field: str, width_in: float = 5.0) -> Figure:
    """A point for each network with its intervals; people's shape bias is a line, since nobody knows their field.

    Args:
        relation: Networks in the order of the legend; untrained ones are grey and hollow.
        people: Their shape bias and its interval.
        field: Words for the horizontal axis.
        width_in: Width in inches.
    """
    with new_figure(width_in, 3.2) as figure:
        ax = figure.subplots()
        if people is not None and people.value is not None:
            if people.low is not None and people.high is not None:
                ax.axhspan(people.low, people.high, color=PEOPLE_COLOUR, alpha=0.12, linewidth=0, zorder=0)
            line: dict[str, Any] = {"color": PEOPLE_COLOUR, "linewidth": 0.9, "linestyle": (0, (4, 2))}
            ax.axhline(people.value, **line, zorder=1, label="people", gid="observer-people-average")
        for index, network in enumerate(relation.networks):
            style = choose_style(index, random=network.random)
            x, y = network.field, network.shape_bias
            assert x.value is not None  # others are left out by `relate`
            assert y.value is not None
            if x.low is not None and x.high is not None:
                ax.plot([x.low, x.high], [y.value] * 2, color=style.colour, linewidth=0.9, zorder=3)
            if y.low is not None and y.high is not None:
                ax.plot([x.value] * 2, [y.low, y.high], color=style.colour, linewidth=0.9, zorder=3)
            marker = {**style.of_marker, "markersize": 5, "markeredgewidth": 0.5}
            ax.plot([x.value], [y.value], **marker, zorder=4, label=network.label, gid=f"{style.key}-points")
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_locator(MultipleLocator(0.2))
        ends = [end for network in relation.networks for end in (network.field.value, network.field.high)]
        ax.set_xlim(0, 1.1 * max(end for end in ends if end is not None))
        ax.set_xlabel(field)
        ax.set_ylabel("shape bias (95% intervals)")
        ax.set_title(relation.correlation.describe().replace("; ", "\n"), fontsize=6.5)
        figure.legend(loc="outside lower center", ncols=2, fontsize=6.5, labelspacing=0.25)
    return figure

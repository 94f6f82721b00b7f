"""From the recording of a network to its lean form. All recorded operations must have a known step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from erf.gradient.lean.axes import MAP
from erf.gradient.lean.calls import NoLeanForm
from erf.gradient.lean.handlers import pointwise, spatial, views
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.lean.node import Node, count_uses
from erf.gradient.lean.reader import Map, Reader
from erf.gradient.lean.record import record
from erf.gradient.lean.steps.pointwise import Affine, Dense, Multiply
from erf.gradient.lean.steps.spatial import Convolution
from erf.gradient.lean.steps.vectors import VectorStep

__all__ = ["Steps", "lean_form", "read_steps"]


@dataclass(frozen=True)
class Steps:
    """The steps of a network up to one feature map, before they are combined into a lean network.

    Attributes:
        nodes: Nodes, in an order in which they can run.
        feature_map: The value that is the feature map.
        layout: Letters of the dimensions of the network's output, as for `Layer.layout`; None if timm or an argument
            brought it into the form of a map.
        size: Size of the network's output.
    """

    nodes: tuple[Node, ...]
    feature_map: int
    layout: str | None
    size: tuple[int, ...]

    @property
    def needs_whole_maps(self) -> bool:
        """As for `LeanNetwork`."""
        return any(isinstance(node.step, VectorStep) for node in self.nodes)

    @property
    def multiplies_maps(self) -> bool:
        """As for `LeanNetwork`."""
        return any(isinstance(node.step, Multiply) for node in self.nodes)

    def network(self) -> LeanNetwork:
        """The lean form. Call this only once, since convolutions absorb the normalisations after them."""
        return LeanNetwork(*_fold_affine(self.nodes, self.feature_map))


def lean_form(model: nn.Module, layer: Any, images: Tensor) -> LeanNetwork:
    """The lean form of a network in eval mode, up to one feature map, for images of one size.

    It shares the parameters of the network, except for convolutions that absorb a normalisation.

    Args, Raises: As for `read_steps`.
    """
    return read_steps(model, layer, images).network()


def read_steps(model: nn.Module, layer: Any, images: Tensor) -> Steps:
    """The steps of a network's lean form.

    Args:
        model: In eval mode; left as it is.
        layer: As for `erf.gradient.contribution.feature_map`.
        images: (N, C, H, W), of which only shape, strides and type are used.

    Raises: ValueError if the network is in train mode; NoLeanForm if it has an operation without a known step, such as
        attention, or for the reasons given in `record`.
    """
    if model.training:
        raise ValueError("lean_form() is for inference: call model.eval() first")
    recording = record(model, layer, images)
    reader = Reader(recording.images, {**spatial.HANDLERS, **pointwise.HANDLERS, **views.HANDLERS})
    for call in recording.calls:
        reader.read(call)
    last = reader.known.get(recording.feature_map.number)
    if not isinstance(last, Map) or sorted("".join(last.axes)) != sorted(MAP) or last.node == 0:
        raise NoLeanForm("its feature map is not one of the maps that are computed")
    layout = "".join("L" if word == "HW" else word for word in last.axes)
    if recording.in_own_layout and any(word not in {*MAP, "HW"} for word in last.axes):
        raise NoLeanForm("its feature map is not laid out as one")
    size = recording.feature_map.size
    return Steps(tuple(_needed(reader.nodes, last.node)), last.node, layout if recording.in_own_layout else None, size)


def _needed(nodes: Sequence[Node], last: int) -> list[Node]:
    """The nodes on which a value depends. Operations with several outputs may have left others."""
    wanted = {last}
    needed = []
    for node in reversed(nodes):
        if node.output in wanted:
            needed.append(node)
            wanted.update(node.inputs)
    return needed[::-1]


def _fold_affine(nodes: Sequence[Node], last: int) -> tuple[list[Node], int]:
    """Fold normalisations into convolutions whose output is used by nothing else.

    Returns: The remaining nodes, and the value that is now the feature map.
    """
    uses = count_uses(nodes, last)
    made_by = {node.output: node.step for node in nodes}
    same_as: dict[int, int] = {}
    kept: list[Node] = []
    for step, inputs, output in nodes:
        inputs = tuple(same_as.get(value, value) for value in inputs)
        before = made_by.get(inputs[0])
        if isinstance(step, Affine) and isinstance(before, (Convolution, Dense)) and uses[inputs[0]] == 1:
            before.fold(step)
            same_as[output] = inputs[0]
            uses[inputs[0]] = uses[output]  # steps that used the normalised map now use the output of the convolution
        else:
            kept.append(Node(step, inputs, output))
    return kept, same_as.get(last, last)

"""A step and its place in the lean form of a network."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from erf.gradient.lean.steps.pointwise import PointwiseStep
from erf.gradient.lean.steps.spatial import SpatialStep
from erf.gradient.lean.steps.vectors import Gate, VectorStep

__all__ = ["Node", "Step", "count_uses"]

Step = PointwiseStep | SpatialStep | VectorStep | Gate


class Node(NamedTuple):
    """A step with its place in a network. Values are identified by numbers; 0 is the image."""

    step: Step
    inputs: tuple[int, ...]
    output: int


def count_uses(nodes: Iterable[Node], last: int) -> Counter[int]:
    """How often each value is used as an input. The feature map, the value `last`, is counted once more."""
    uses = Counter(value for node in nodes for value in node.inputs)
    uses[last] += 1
    return uses

"""A step at its place in the lean form of a network."""

from typing import NamedTuple

from erf.gradient.lean.steps.pointwise import PointwiseStep
from erf.gradient.lean.steps.spatial import SpatialStep
from erf.gradient.lean.steps.vectors import Gate, VectorStep

__all__ = ["Node", "Step"]

Step = PointwiseStep | SpatialStep | VectorStep | Gate


class Node(NamedTuple):
    """A step at its place in a network. Values are numbered, 0 is the image."""

    step: Step
    inputs: tuple[int, ...]
    output: int

"""A recording of what a network computes: values, and the calls that produce them."""

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["IMAGE", "Call", "NoLeanForm", "Recording", "Value"]

IMAGE = 0


class NoLeanForm(Exception):
    """The network has no lean form. The message says why."""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images, identified by its number in the recording. The images themselves are 0."""

    number: int
    size: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Call:
    """An operation on values of the recording.

    Attributes:
        operation: Name, without the overload and without the underscore of in-place forms, such as 'aten::relu'.
        function: The operation itself, to call it again.
        args: Positional arguments; tensors that depend on the images are replaced by their values.
        kwargs: Keyword arguments, in the same form.
        outputs: The values that it produces. An in-place form also produces a new value.
        writes: Whether it is an in-place form.
        reads: The input values, each with autograd's node for it (None for the images).
    """

    operation: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Value, ...]
    writes: bool
    reads: tuple[tuple[Value, Any], ...]


@dataclass(frozen=True)
class Recording:
    """The calls on which a feature map depends, in the order in which the network makes them.

    Attributes:
        in_own_layout: Whether the feature map is in the layout of the network's own output, rather than already
            arranged as a map (N, C, h, w).
    """

    calls: tuple[Call, ...]
    images: Value
    feature_map: Value
    in_own_layout: bool

"""A recording of what a network computes: values, and the calls that make them."""

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["IMAGE", "Call", "NoLeanForm", "Recording", "Value"]

IMAGE = 0


class NoLeanForm(Exception):
    """A network that has no lean form, and why."""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images, by its number in the recording; 0 are the images."""

    number: int
    size: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Call:
    """An operation on values of the recording.

    Attributes:
        operation: Its name without overload and the underscore of in-place forms, such as 'aten::relu'.
        function: To call it again.
        args: As in the call, with values in the place of tensors that depend on the images.
        kwargs: Likewise.
        outputs: What it gives; an in-place form gives a new value, too.
        writes: Whether it is an in-place form.
        reads: The values that go in, each with autograd's node for it (None for the images).
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
    """The calls that a feature map depends on, in the order of the network.

    Attributes:
        in_own_layout: Whether the feature map is as the network gives it out, and not yet brought into the form of a
            map (N, C, h, w).
    """

    calls: tuple[Call, ...]
    images: Value
    feature_map: Value
    in_own_layout: bool

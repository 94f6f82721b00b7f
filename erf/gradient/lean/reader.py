"""Translate recorded calls into nodes of a lean network, by a table of handlers for operations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from erf.gradient.lean.axes import MAP, Axes
from erf.gradient.lean.calls import Call, NoLeanForm, Value
from erf.gradient.lean.node import Node
from erf.gradient.lean.steps.vectors import Gate, VectorStep

__all__ = ["Handler", "Map", "Reader", "Vector", "per_channel"]

Handler = Callable[..., bool]


@dataclass(frozen=True)
class Map:
    """A recorded value that is a feature map: the node that computes it, and its axes."""

    node: int
    axes: Axes


@dataclass(frozen=True)
class Vector:
    """A recorded value that is a vector for each image, and the calls that compute it from means over whole maps.

    Attributes:
        value: The vector itself. If it was expanded, the vector before that.
        sources: The recorded values from which it is computed, with their axes and the nodes that compute them.
        calls: The calls from the sources to the vector.
        expanded: Whether it was expanded to the size of a map, so that it can only be used as a gate.
    """

    value: Value
    sources: tuple[tuple[Value, str, int], ...]
    calls: tuple[Call, ...] = ()
    expanded: bool = False


class Reader:
    """Translates calls into nodes.

    Args:
        images: The value of the images.
        handlers: Handlers, keyed by the name of the operation.

    Attributes:
        nodes: The nodes so far.
        known: What each recorded value is.
    """

    def __init__(self, images: Value, handlers: Mapping[str, Handler]):
        self.nodes: list[Node] = []
        self.known: dict[int, Map | Vector] = {images.number: Map(0, MAP)}
        self._sizes: dict[int, dict[str, int]] = {0: dict(zip(MAP, images.size, strict=True))}
        self._dtype = images.dtype
        self._handlers = handlers

    def read(self, call: Call) -> None:
        """Translate a call.

        Raises: NoLeanForm if there is no step for it.
        """
        if any(value.dtype != self._dtype for value, _ in call.reads):
            raise NoLeanForm(f"{call.operation} works on another type of numbers than that of the images")
        kinds = [self.known[value.number] for value, _ in call.reads]
        if kinds and all(isinstance(kind, Vector) for kind in kinds):
            self._read_vector(call, [kind for kind in kinds if isinstance(kind, Vector)])
            return
        try:
            handler = self._handlers[call.operation]
        except KeyError:
            raise NoLeanForm(f"{call.operation} is none of its steps") from None
        try:
            known = handler(self, call, *call.args, **call.kwargs)
        except (TypeError, ValueError, AttributeError, LookupError, RuntimeError) as error:  # arguments of a new kind
            raise NoLeanForm(
                f"{call.operation} has arguments that are not understood ({error}): {_described(call)}"
            ) from error
        if not known:
            raise NoLeanForm(f"{call.operation} is a step in other cases than this one: {_described(call)}")

    def map_of(self, value: Any) -> Map | None:
        known = self.known.get(value.number) if isinstance(value, Value) else None
        return known if isinstance(known, Map) else None

    def vector_of(self, value: Any) -> Vector | None:
        known = self.known.get(value.number) if isinstance(value, Value) else None
        return known if isinstance(known, Vector) else None

    def sizes(self, x: Map) -> dict[str, int]:
        """Numbers of images, channels, rows and columns of a map."""
        return self._sizes[x.node]

    def add(self, call: Call, step: Any, *sources: Map | int, axes: Axes, number: int = 0, **sizes: int) -> bool:
        """Add a node for an output of a call. `sizes` gives the sizes of letters that differ from the first source."""
        nodes = tuple(source.node if isinstance(source, Map) else source for source in sources)
        output = len(self.nodes) + 1
        self.nodes.append(Node(step, nodes, output))
        self._sizes[output] = {**self._sizes[nodes[0]], **sizes}
        value = call.outputs[number]
        if tuple(_extent(word, self._sizes[output]) for word in axes) != value.size:
            return False
        self.known[value.number] = Map(output, axes)
        return True

    def same(self, call: Call, x: Map | Vector, axes: Axes | None = None) -> bool:
        """Register that the output of a call is a known map, possibly with its axes in another order."""
        self.known[call.outputs[0].number] = Map(x.node, axes or x.axes) if isinstance(x, Map) else x
        return True

    def add_vector(self, call: Call, step: Any, x: Map) -> bool:
        """Add a node that reduces a whole map to one vector, and register the vector."""
        words = [word for word in ("N", "C") if word in x.axes]
        if len(words) != 2:
            return False
        output = len(self.nodes) + 1
        self.nodes.append(Node(step, (x.node,), output))
        self._sizes[output] = {**self._sizes[x.node], "H": 1, "W": 1}
        order = "".join(word for word in x.axes if word in words)
        self.known[call.outputs[0].number] = Vector(call.outputs[0], ((call.outputs[0], order, output),))
        return True

    def gate(self, call: Call, operation: str, x: Map, vector: Vector) -> bool:
        """Add one node for the calls that compute a vector, and one that applies the vector to a map."""
        value, rank = vector.value, len(x.axes)
        order: list[int | None] = []
        for letter in MAP:
            axis = x.axes.index(letter) - rank + len(value.size) if letter in x.axes else -1
            order.append(axis if axis >= 0 and letter in "NC" else None)
        sizes = self.sizes(x)
        wanted = [1] * len(value.size)
        for letter, place in zip("NC", order[:2], strict=True):
            if place is not None:
                wanted[place] = sizes[letter]
        if len(value.size) > rank or any(n not in (1, m) for n, m in zip(value.size, wanted, strict=True)):
            return False
        sources = [(source, axes) for source, axes, _ in vector.sources]
        step = VectorStep(vector.calls, sources, value, order)
        output = len(self.nodes) + 1
        self.nodes.append(Node(step, tuple(node for _, _, node in vector.sources), output))
        self._sizes[output] = {"N": 1, "C": 1, "H": 1, "W": 1}
        return self.add(call, Gate(operation), x, output, axes=x.axes)

    def _read_vector(self, call: Call, kinds: Sequence[Vector]) -> None:
        """Register a vector that is computed from vectors alone."""
        if any(kind.expanded for kind in kinds):
            raise NoLeanForm(f"{call.operation} works on a vector that was expanded to a map")
        if call.operation == "aten::expand":
            self.known[call.outputs[0].number] = replace(kinds[0], expanded=True)
            return
        sources: dict[int, tuple[Value, str, int]] = {}
        calls: dict[int, Call] = {}
        for kind in kinds:
            sources.update((source[0].number, source) for source in kind.sources)
            calls.update((id(before), before) for before in kind.calls)
        in_order = sorted(calls.values(), key=lambda before: before.outputs[0].number)
        for value in call.outputs:
            self.known[value.number] = Vector(value, tuple(sources.values()), (*in_order, call))


def _extent(word: str, sizes: dict[str, int]) -> int:
    product = 1
    for letter in word:
        product *= sizes[letter]
    return product


def _described(call: Call) -> str:
    parts = [*call.args, *(f"{key}={value}" for key, value in call.kwargs.items())]
    said = [
        f"{tuple(p.size if isinstance(p, Value) else p.shape)}" if isinstance(p, (Value, Tensor)) else str(p)
        for p in parts
    ]
    return ", ".join(said)


def per_channel(reader: Reader, x: Map, constant: Any) -> Tensor | None:
    """A constant that is the same for all images and pixels, as float64 (1,) or (C,); None for other constants."""
    if isinstance(constant, (int, float)) and not isinstance(constant, bool):
        return torch.tensor([constant], dtype=torch.float64, device="cpu")
    if not isinstance(constant, Tensor) or constant.ndim > len(x.axes) or not constant.is_floating_point():
        return None
    for size, word in zip(reversed(constant.shape), reversed(x.axes), strict=False):
        if size != 1 and word != "C":
            return None
    flat = constant.detach().double().flatten()
    return flat if len(flat) in (1, reader.sizes(x)["C"]) else None

"""Steps on vectors, one for each image, such as the gates that squeeze-and-excitation computes from a whole map."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from erf.gradient.lean.calls import Call, Value

__all__ = ["Gate", "VectorStep"]


class VectorStep:
    """The calls between the mean of a map and the gate computed from it, replayed one by one.

    Vectors are so small that autograd costs nothing on them, so the backward pass is that of autograd.

    Args:
        calls: The calls, in order.
        sources: The values that the first calls read, each with the order of its axes, 'NC' or 'CN', and its size.
        result: The value of the result.
        order: Which axes of the result are N, C, H and W (the last two of size 1); None for an axis that it lacks.
    """

    keeps_input = True

    def __init__(
        self,
        calls: Sequence[Call],
        sources: Sequence[tuple[Value, str]],
        result: Value,
        order: Sequence[int | None],
    ):
        self.calls, self.sources, self.result, self.order = tuple(calls), tuple(sources), result, tuple(order)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Any]:
        """Compute a vector (N, C, 1, 1) from input vectors of this shape, and what `backward` needs."""
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            values: dict[int, Any] = {}
            for (value, axes), leaf in zip(self.sources, leaves, strict=True):
                flat = leaf.flatten(1)
                values[value.number] = (flat if axes == "NC" else flat.T).reshape(value.size)
            for call in self.calls:
                args, kwargs = _filled((call.args, call.kwargs), values)
                if call.writes:
                    args = (args[0].clone(), *args[1:])
                results = call.function(*args, **kwargs)
                for value, result in zip(
                    call.outputs, results if isinstance(results, tuple) else (results,), strict=True
                ):
                    values[value.number] = result
            y = _as_map(values[self.result.number], self.order)
        return y.detach(), (leaves, y)

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        """Gradient with respect to each input."""
        leaves, y = kept
        return tuple(found.clone() for found in torch.autograd.grad(y, leaves, grad))  # they may share memory


class Gate:
    """A map multiplied by, plus or minus a vector (N, C, 1, 1). It keeps what the gradients need.

    Args:
        operation: 'mul', 'add' or 'sub'.
    """

    def __init__(self, operation: str):
        self.operation = operation
        self.keeps_input = operation == "mul"

    def forward(self, x: Tensor, vector: Tensor) -> tuple[Tensor, Any]:
        if self.operation == "add":
            return x + vector, (None, vector.shape)
        if self.operation == "sub":
            return x - vector, (None, vector.shape)
        return x * vector, (x, vector)

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, Tensor]:
        """Gradient with respect to the map and to the vector."""
        if self.operation == "add":
            return grad, grad.sum_to_size(kept[1])
        if self.operation == "sub":
            return grad, -grad.sum_to_size(kept[1])
        x, vector = kept
        return grad * vector, (grad * x).sum_to_size(vector.shape)


def _filled(tree: Any, values: dict[int, Any]) -> Any:
    """The arguments of a call, with recorded values replaced by actual tensors."""
    if isinstance(tree, Value):
        return values[tree.number]
    if isinstance(tree, (tuple, list)):
        return type(tree)([_filled(part, values) for part in tree])
    if isinstance(tree, dict):
        return {key: _filled(part, values) for key, part in tree.items()}
    return tree


def _as_map(x: Tensor, order: Sequence[int | None]) -> Tensor:
    """Reshape a tensor to (N, C, 1, 1), given the order of its axes."""
    there = [axis for axis in order if axis is not None]
    sizes = [1 if axis is None else x.shape[axis] for axis in order]
    rest = [axis for axis in range(x.ndim) if axis not in there]
    return x.permute(*rest, *there).reshape(sizes)

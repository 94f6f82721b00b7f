"""Workaround for a bug of PyTorch in the gradient of batch normalisation.

On CPU (seen in torch 2.14), the backward pass of a normalisation in eval mode uses `suggest_memory_format` to decide
whether the input and the incoming gradient have the same memory order, and `is_contiguous` to decide whether they are
dense. The two disagree on a batch of one image in channels-last order whose batch stride is smaller than an image: the
first calls it contiguous, the second channels-last. If one of the two tensors is like this and the other is contiguous,
it is read in the wrong order, and the gradient is wrong. Views alone can produce such a tensor, for example where
`x.flatten(2).transpose(1, 2)` follows the normalisation, as in VAN.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["Guard", "guard_batch_norms"]

_NODE = "NativeBatchNormBackward0"
_Hook = Callable[[tuple[Tensor | None, ...]], tuple[Tensor | None, ...] | None]


class Guard:
    """What was found while a guarded backward pass ran.

    Attributes:
        needed: Whether any gradient had strides that PyTorch would have read incorrectly.
    """

    needed = False


def guard_batch_norms(output: Tensor) -> Guard:
    """Make the backward pass from `output` correct. Call this before the backward pass.

    Every normalisation of the graph gets its incoming gradient with strides that PyTorch reads correctly. Gradients
    that PyTorch already computes correctly keep their strides, and therefore all their bits.

    Args:
        output: The tensor that is differentiated.

    Returns: A record of whether the guard was needed, which is complete after the backward pass.
    """
    guard = Guard()
    for node in _nodes(output):
        if node.name() == _NODE:
            saved: Tensor = node._saved_input  # type: ignore[attr-defined]
            if saved.device.type == "cpu" and saved.ndim == 4:
                node.register_prehook(_hook(guard, saved.is_contiguous(), _is_mistaken(saved)))
    return guard


def _nodes(output: Tensor) -> Iterator[torch.autograd.graph.Node]:
    """Every node of the graph that led to a tensor."""
    waiting = [output.grad_fn] if output.grad_fn is not None else []
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        before = [one for one, _ in node.next_functions if one is not None and one not in seen]
        seen.update(before)
        waiting.extend(before)


def _hook(guard: Guard, contiguous: bool, mistaken: bool) -> _Hook:
    """A hook that corrects a node's incoming gradients, by the memory layout of its input; holds no tensor or node."""

    def mend(grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
        grad = grads[0]
        if grad is None:
            return None
        if contiguous and _is_mistaken(grad):
            guard.needed = True
            return (grad.as_strided(grad.shape, _channels_last_strides(grad)), *grads[1:])
        if mistaken and grad.is_contiguous():
            guard.needed = True
            return (grad.contiguous(memory_format=torch.channels_last), *grads[1:])
        return None

    return mend


def _is_mistaken(x: Tensor) -> bool:
    """Whether a tensor is dense in channels-last order only, with strides other than the usual ones of that order."""
    dense = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return dense and x.stride() != _channels_last_strides(x)


def _channels_last_strides(x: Tensor) -> tuple[int, ...]:
    _, channels, height, width = x.shape
    return (channels * height * width, 1, channels * width, channels)

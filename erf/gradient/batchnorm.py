"""Workaround for an error of PyTorch in the gradient of batch normalisation.

On CPU (seen in torch 2.14) the backward pass of a normalisation in eval mode decides by `suggest_memory_format` whether
input and incoming gradient lie in memory in the same order, and by `is_contiguous` whether they are dense. The two
disagree on a batch of one image in channels-last order whose stride over the batch is smaller than an image: the first
calls it contiguous, the second channels-last. Such a tensor next to one that is contiguous is read in the wrong order,
and the gradient is another one. It comes about by views alone, for example where `x.flatten(2).transpose(1, 2)` follows
the normalisation, as in VAN.

Looking at every gradient takes a twentieth of the time of a small network's map. It is done once where a network has no
views: there a gradient lies in memory as the one before it, the weights and the normalised inputs make it.
"""

from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["guard_batch_norms"]

_NODE = "NativeBatchNormBackward0"
_LAID_OUT_AS_GIVEN = frozenset(
    f"{name}Backward0"
    for name in (
        *("Add", "Clone", "Convolution", "Gelu", "Hardsigmoid", "Hardswish", "Hardtanh", "MaxPool2DWithIndices"),
        *("Mul", "NativeBatchNorm", "Relu", "Select", "Sigmoid", "Silu", "Sum"),
    )
) | {"MeanBackward1", "torch::autograd::AccumulateGrad"}
"""Functions that give a gradient no order in memory by an argument of their own, as views do."""
_Hook = Callable[[tuple[Tensor | None, ...]], tuple[Tensor | None, ...] | None]


def guard_batch_norms(output: Tensor, known: MutableMapping[Hashable, Any] | None = None) -> Callable[[], None]:
    """Make the backward pass from `output` right; to be called before it.

    Every normalisation of the graph gets its incoming gradient with strides that PyTorch cannot mistake. Gradients that
    PyTorch computes rightly keep their strides, and so all their bits.

    Args:
        output: What is differentiated.
        known: What is known of the network, to be looked up and added to. If a backward pass needed no help, those
            through the same functions and normalised inputs of the same shapes, strides and types get none, provided
            that all functions are among `_LAID_OUT_AS_GIVEN`.

    Returns: A function to be called after the backward pass, which adds to `known`.
    """
    names, norms = [], []
    for node in _nodes(output):
        names.append(node.name())
        if names[-1] == _NODE:
            saved: Tensor = node._saved_input  # type: ignore[attr-defined]
            if saved.device.type == "cpu" and saved.ndim == 4:
                norms.append(
                    (node, saved.is_contiguous(), _is_mistaken(saved), (*saved.shape, *saved.stride(), saved.dtype))
                )
    key = ("gradients lie right", *names, *(geometry for *_, geometry in norms))
    if known is not None and key in known:
        return lambda: None
    mended: list[bool] = []
    for node, contiguous, mistaken, _ in norms:
        node.register_prehook(_hook(contiguous, mistaken, mended))

    def remember() -> None:
        if known is not None and not mended and _LAID_OUT_AS_GIVEN.issuperset(names):
            known[key] = True

    return remember


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


def _hook(contiguous: bool, mistaken: bool, mended: list[bool]) -> _Hook:
    """What a node does with its incoming gradients, by how its input lies in memory. It holds no tensor and no node.

    Args:
        mended: Gets an entry when a gradient had to be given other strides.
    """

    def mend(grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
        grad = grads[0]
        if grad is None:
            return None
        if contiguous and _is_mistaken(grad):
            mended.append(True)
            return (grad.as_strided(grad.shape, _channels_last_strides(grad)), *grads[1:])
        if mistaken and grad.is_contiguous():
            mended.append(True)
            return (grad.contiguous(memory_format=torch.channels_last), *grads[1:])
        return None

    return mend


def _is_mistaken(x: Tensor) -> bool:
    """Whether a tensor is dense in channels-last order alone, with strides that are not quite those."""
    dense = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return dense and x.stride() != _channels_last_strides(x)


def _channels_last_strides(x: Tensor) -> tuple[int, ...]:
    _, channels, height, width = x.shape
    return (channels * height * width, 1, channels * width, channels)

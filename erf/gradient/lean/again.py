"""Recompute hidden layers in the backward pass instead of keeping them, where this saves much memory at little cost.

A block of RepLKNet or ConvNeXt widens its map fourfold by a 1×1 convolution and then applies GELU, whose input is kept
in half precision. The map before the convolution takes half of that memory, and the input of GELU can be recomputed
from it by the convolution.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from erf.gradient.lean.node import Node, count_uses
from erf.gradient.lean.steps.pointwise import Activation, Dense, Keep, PointwiseStep

__all__ = ["DenseActivation", "choose_again", "put_together"]

_WORTH_BYTES = 1 << 24
"""Bytes that a layer must save for each image. Below this, time matters more than memory."""
_MOST_WORK = 0.02
"""Multiplications that may be added, as a share of those of all 1×1 convolutions in the forward and backward passes."""


class DenseActivation(PointwiseStep):
    """A 1×1 convolution and the activation of its output. It keeps its input, and computes the output twice."""

    def __init__(self, dense: Dense, activation: Activation):
        self.dense, self.activation = dense, activation
        self.width = dense.width

    def channels_of(self, *inputs: int) -> int:
        return self.width

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        return (Keep(inputs[0].shape[1], inputs[0].dtype),)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        keep[0].copy_(inputs[0])
        return self.activation.function(self.dense.forward(inputs[0], keep=()))

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        hidden = self.dense.forward(kept[0], keep=())
        return self.dense.backward(self.activation.gradient(grad, hidden), ())


class _Layer(NamedTuple):
    """An activation after a 1×1 convolution: its value, the cost of recomputing its input, and the bytes saved."""

    value: int
    work: int
    saved: int


def choose_again(nodes: Sequence[Node], sizes: Mapping[int, tuple[int, int]], last: int) -> frozenset[int]:
    """Choose the activations whose input is recomputed: those that save the most memory for the work, up to a limit.

    Args:
        nodes: All nodes of the network.
        sizes: Height and width of each value.
        last: The value that is the feature map.

    Returns: The values of the chosen activations.
    """
    made_by = {node.output: node for node in nodes}
    uses = count_uses(nodes, last)
    layers = []
    products = 0
    for node in nodes:
        step, source = node.step, made_by.get(node.inputs[0])
        height, width = sizes[node.output]
        if isinstance(step, Dense):
            products += height * width * step.weight.numel()
        if not isinstance(step, Activation) or not step.half or source is None or uses[source.output] > 1:
            continue
        if isinstance(source.step, Dense) and source.step.groups == 1:
            hidden, channels = source.step.weight.shape[:2]
            saved = height * width * (2 * hidden - 4 * channels)  # half precision, compared with float32
            layers.append(_Layer(node.output, height * width * hidden * channels, saved))
    worth = [layer for layer in layers if layer.saved >= _WORTH_BYTES]
    chosen, work = [], 0
    for layer in sorted(worth, key=lambda layer: layer.work / layer.saved):
        work += layer.work
        if work > _MOST_WORK * 2 * products:
            break
        chosen.append(layer.value)
    return frozenset(chosen)


def put_together(run: Sequence[Node], chosen: frozenset[int]) -> list[Node]:
    """The nodes, with each chosen activation merged into one step with the convolution before it, if the run has it."""
    made_by = {node.output: node for node in run}
    merged = {node.output for node in run if node.output in chosen and node.inputs[0] in made_by}
    taken_in = {node.inputs[0] for node in run if node.output in merged}
    return [
        _with_dense(made_by[node.inputs[0]], node) if node.output in merged else node
        for node in run
        if node.output not in taken_in
    ]


def _with_dense(before: Node, node: Node) -> Node:
    """Merge a 1×1 convolution and the activation after it into one node."""
    assert isinstance(before.step, Dense)
    assert isinstance(node.step, Activation)
    return Node(DenseActivation(before.step, node.step), before.inputs, node.output)

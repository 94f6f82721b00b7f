"""From a network to its lean form: its steps, read off by tracing, where all of them are known."""

import operator
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import fx, nn

from erf.gradient.contribution import feature_map, is_module_name
from erf.gradient.lean.network import LeanNetwork, Node
from erf.gradient.lean.steps import (
    GELU,
    Add,
    Affine,
    Convolution,
    Dense,
    MaxPool,
    PointwiseStep,
    ReLU,
    SpatialStep,
    convolution,
)

__all__ = ["NoLeanForm", "lean_form"]

_IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d, DropPath)  # in eval mode
_SUMS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (F.relu, torch.relu, torch.relu_)


class NoLeanForm(Exception):
    """A network that has no lean form, and why."""


def lean_form(model: nn.Module, layer: Any = "last", images: torch.Tensor | None = None) -> LeanNetwork:
    """The lean form of a network in eval mode, up to one feature map.

    It shares the network's parameters, but for convolutions that take in a normalisation.

    Args:
        layer: As for `erf.gradient.contribution.feature_map`.

    Raises: ValueError if the network is in train mode; NoLeanForm if the network has a step that `steps` does not know,
        such as attention, if it cannot be traced, or if it has no such layer.
    """
    if model.training:
        raise ValueError("lean_form() is for inference: call model.eval() first")
    by_name = is_module_name(model, layer)
    watched = dict(model.named_modules()).get(str(layer)) if by_name else None
    if by_name != (watched is not None) or not (by_name or hasattr(model, "forward_intermediates")):
        raise NoLeanForm(f"it has no layer {layer}")
    tracer = _Tracer(watched)
    root = model if by_name else _UpTo(model, layer)
    try:
        graph = tracer.trace(root)
    except Exception as error:  # tracing runs the network's own Python on placeholders: anything can come of it
        raise NoLeanForm(f"it cannot be traced: {error}") from error
    last = tracer.watched_output if by_name else graph.output_node().args[0]
    return LeanNetwork(_read(graph, dict(root.named_modules()), last))


class _UpTo(nn.Module):
    """A network whose output is one feature map."""

    def __init__(self, model: nn.Module, layer: str | int):
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return feature_map(self.model, x, layer=self.layer)


class _Tracer(fx.Tracer):
    """Traces to single operations, and watches what one module gives out."""

    def __init__(self, watched: nn.Module | None):
        super().__init__()
        self.watched = watched
        self.watched_output: Any = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, DropPath)) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if m is self.watched and isinstance(output, fx.Proxy):
            self.watched_output = output.node
        return output


def _read(graph: fx.Graph, modules: dict[str, nn.Module], last: Any) -> list[Node]:
    """The steps that the traced value `last` depends on, in the order of the network."""
    if not isinstance(last, fx.Node):
        raise NoLeanForm(f"its feature map is {type(last).__name__}")
    needed = {last}
    for traced in reversed(graph.nodes):
        if traced in needed:
            needed.update(traced.all_input_nodes)
    number: dict[fx.Node, int] = {}
    nodes: list[Node] = []
    for traced in graph.nodes:
        if traced not in needed:
            continue
        inputs = [number[source] for source in traced.all_input_nodes]
        module = modules[str(traced.target)] if traced.op == "call_module" else None
        if traced.op == "placeholder" and not number:
            number[traced] = 0
        elif isinstance(module, _IDENTITIES):
            number[traced] = inputs[0]
        else:
            nodes.append(Node(_step(traced, module), tuple(inputs), len(nodes) + 1))
            number[traced] = nodes[-1].output
    return _fold_affine(nodes)


def _step(traced: fx.Node, module: nn.Module | None) -> PointwiseStep | SpatialStep:
    """The step that a traced operation is.

    Raises: NoLeanForm if it is none.
    """
    source = traced.all_input_nodes[0] if traced.all_input_nodes else None
    writes = getattr(module, "inplace", False) or traced.target in (operator.iadd, torch.relu_)
    if source is None or (writes and len(source.users) > 1):  # what others see after the write is not traced
        raise NoLeanForm(f"{traced.format_node()}")
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and isinstance(module.padding, tuple):
        return convolution(module)
    if type(module) is nn.BatchNorm2d and module.track_running_stats:
        return _affine(module)
    if type(module) is nn.ReLU or traced.target in _RECTIFIERS:
        return ReLU()
    if type(module) is nn.GELU:
        return GELU(module.approximate)
    if type(module) is nn.MaxPool2d and not module.ceil_mode:
        return MaxPool(module)
    if traced.target in _SUMS and len(traced.all_input_nodes) == 2 and not traced.kwargs:
        return Add()
    raise NoLeanForm(f"{traced.format_node()}")


def _affine(norm: nn.BatchNorm2d) -> Affine:
    """What a batch normalisation with running statistics does in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    return Affine(scale.detach(), shift.detach())


def _fold_affine(nodes: list[Node]) -> list[Node]:
    """Let convolutions do the work of the normalisations that alone use their output."""
    uses = Counter(value for node in nodes for value in node.inputs)
    made_by = {node.output: node.step for node in nodes}
    same_as: dict[int, int] = {}
    kept: list[Node] = []
    for step, inputs, output in nodes:
        inputs = tuple(same_as.get(value, value) for value in inputs)
        before = made_by.get(inputs[0])
        if isinstance(step, Affine) and isinstance(before, (Convolution, Dense)) and uses[inputs[0]] == 1:
            before.fold(step)
            same_as[output] = inputs[0]
        else:
            kept.append(Node(step, inputs, output))
    return kept

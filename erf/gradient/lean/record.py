"""What a network actually computes: every operation of its forward pass, recorded while its own Python code runs.

The network runs once on a tensor without numbers (`Blank`) that has the shape, type and strides of the images. Nothing
is inferred from the class names of modules: overridden methods, parametrisations, functionals, in-place operations and
branches behave in the recording as in any other run, since only PyTorch's operations are replaced. Whatever does not
depend on the images, such as a standardised weight, is computed as usual and becomes a constant of the recording.

The recording is compared node by node with autograd's own graph. This reveals operations without gradient, detached
tensors, operations with a custom backward pass, and tensors that were written to through another tensor.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from erf.gradient.layers.capture import capture, eager, select, unwrapped
from erf.gradient.layers.chance import same_random_numbers
from erf.gradient.layers.find import feature_map, is_module_name, resolve
from erf.gradient.layers.layer import Layer, as_layer
from erf.gradient.lean.calls import IMAGE, Call, NoLeanForm, Recording, Value
from erf.gradient.lean.copies import copy_network

__all__ = ["record"]


def record(model: nn.Module, layer: Any, images: Tensor) -> Recording:
    """Record how a network computes a feature map from images.

    Args:
        model: In eval mode. A copy of it runs, so it is left as it is, whatever its forward pass stores. All random
            number generators are left as they are as well.
        layer: As for `erf.gradient.layers.find.feature_map`.
        images: (N, C, H, W), of which only shape, strides, type and device are used.

    Raises: NoLeanForm if the network's Python code needs the missing numbers, if it computes something that autograd's
        graph does not show in the same way, or if what it computes is not the same each time.
    """
    _check_modules(model)
    recorder = _Recorder()
    try:
        model = copy_network(unwrapped(model))
        with same_random_numbers(images.device), torch.inference_mode(False), torch.enable_grad(), recorder:
            x = recorder.blank(torch.empty_strided(images.shape, images.stride(), dtype=images.dtype, device="meta"))
            x.requires_grad_()
            found, own_layout = _output(model, x, as_layer(layer))
    except NoLeanForm:
        raise
    except Exception as error:  # this runs the network's own code on a tensor without data, so any error is possible
        if isinstance(error.__cause__, NoLeanForm):
            raise error.__cause__ from None
        raise NoLeanForm(f"it cannot be recorded: {type(error).__name__}: {error}") from error
    if not isinstance(found, Blank):
        raise NoLeanForm("its feature map does not depend on the images")
    calls = _needed(recorder.calls, found.value)
    recorder.check_tensors()
    _check_autograd(calls, found)
    return Recording(calls, x.value, found.value, own_layout)


def _output(model: Any, x: Tensor, layer: Layer) -> tuple[Any, bool]:
    """The output of a layer in its own layout; the recorded operations show which of its axes are which.

    Returns: The output, and whether it is in its own layout. If not, it is already a map.
    """
    found = resolve(model, layer)
    if found.letters is None or ("L" in found.letters and found.grid is None):  # it would have to be detected
        with eager(model):
            if is_module_name(model, found):
                return select(capture(model, lambda: model(x), found), found), True
            if found.name == "last" and not hasattr(model, "forward_intermediates"):
                return (model.forward_features(x) if hasattr(model, "forward_features") else model(x)), True
    return feature_map(model, x, layer=layer), False


class Blank(Tensor):
    """A tensor without numbers. It runs through a network in place of one that depends on the images."""

    value: Value  # the last value written to it
    meta: Tensor  # has the same shape and strides; PyTorch infers those of results from it
    written: int  # how often its memory had been written to by then

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, meta: Tensor) -> "Blank":
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, meta.size(), strides=meta.stride(), storage_offset=meta.storage_offset(), dtype=meta.dtype
        )

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise NoLeanForm(f"{func} was called outside of the recording")


@dataclass
class _Recorder(TorchDispatchMode):
    """Records operations on blanks, and runs all others.

    Attributes:
        calls: The recorded calls, in order.
        constants: Tensors that are independent of the images and were used in calls, with their version at that time.
    """

    calls: list[Call] = field(default_factory=list)
    constants: dict[int, tuple[Tensor, int]] = field(default_factory=dict)
    _values: int = 0
    _metas: dict[int, Tensor] = field(default_factory=dict)
    _writes: dict[int, int] = field(default_factory=dict)  # number of writes to each memory
    _alive: list[Tensor] = field(default_factory=list)  # keeps tensors alive, so that no address is used twice
    _made: set[int] = field(default_factory=set)  # constants created in this run, with memory of their own

    def __post_init__(self) -> None:
        super().__init__()

    def blank(self, meta: Tensor) -> Blank:
        """A new blank, with a value of its own."""
        blank = Blank(meta)
        blank.meta = meta
        self._renew(blank)
        self._alive.append(blank)
        return blank

    def check_tensors(self) -> None:
        """Raises: NoLeanForm if a constant was changed after its use, or a gradient has a hook."""
        if any(constant._version != version for constant, version in self.constants.values()):
            raise NoLeanForm("it changes a tensor after having used it")
        if any(blank._backward_hooks for blank in self._alive if isinstance(blank, Blank)):
            raise NoLeanForm("a tensor has a hook")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = _known(func)
        if known.random:
            raise NoLeanForm(f"{func} is random")
        written = {id(x) for x in _written(known, args, kwargs)} if known.writes else set()
        if not any(isinstance(x, Blank) for x in _tensors((args, kwargs))):
            return self._constant(func, args, kwargs, written)
        sources: dict[int, Tensor] = {}  # keyed by the meta tensors that represent them
        reads: list[tuple[Value, Any]] = []

        def to_meta(x: Tensor) -> Tensor:
            if isinstance(x, Blank):
                if x.written != self._writes.get(_memory(x), 0):
                    raise NoLeanForm(f"{func} reads what was written to through another tensor")
                reads.append((x.value, x.grad_fn))
            elif id(x) in written:
                raise NoLeanForm(f"{func} keeps something of the images in the network")
            meta = x.meta if isinstance(x, Blank) else self._meta(x)
            sources[id(meta)] = x
            return meta

        arguments = _mapped(args, lambda x: x.value if isinstance(x, Blank) else x)
        options = _mapped(kwargs, lambda x: x.value if isinstance(x, Blank) else x)
        result = _shapes(known, func, _mapped(args, to_meta), _mapped(kwargs, to_meta))
        outputs: list[Value] = []

        def to_blank(meta: Tensor) -> Tensor:
            given = sources.get(id(meta))
            if isinstance(given, Blank):
                self._writes[_memory(given)] = self._writes.get(_memory(given), 0) + 1
                self._renew(given)
            blank = given if isinstance(given, Blank) else self.blank(meta)
            outputs.append(blank.value)
            return blank

        result = _mapped(result, to_blank)
        self.calls.append(Call(known.operation, func, arguments, options, tuple(outputs), bool(written), tuple(reads)))
        return result

    def _renew(self, blank: Blank) -> None:
        blank.value = Value(self._values, tuple(blank.shape), blank.dtype)
        blank.written = self._writes.get(_memory(blank), 0)
        self._values += 1

    def _constant(self, func: Any, args: Any, kwargs: Any, written: set[int]) -> Any:
        """Run an operation that does not depend on the images."""
        if not written <= self._made:
            raise NoLeanForm(f"{func} changes the network")
        result = func(*args, **kwargs)
        not_made = {_memory_of(x) for x in _tensors([args, kwargs]) if id(x) not in self._made}
        for x in _tensors(result):
            if _memory_of(x) not in not_made:  # a view of a tensor of the network is a part of the network
                self._made.add(id(x))
            self._alive.append(x)
        return result

    def _meta(self, constant: Tensor) -> Tensor:
        if id(constant) not in self.constants:
            self.constants[id(constant)] = (constant, constant._version)
            self._metas[id(constant)] = torch.empty_strided(
                constant.shape, constant.stride(), dtype=constant.dtype, device="meta"
            )
        return self._metas[id(constant)]


_ATOMS = frozenset([bool, int, float, type(None), torch.dtype, torch.device])
_POINTWISE = frozenset(
    f"aten::{name}"
    for name in (
        *("relu", "hardtanh", "gelu", "silu", "hardswish", "hardsigmoid", "mish", "sigmoid", "tanh"),
        *("leaky_relu", "elu", "native_batch_norm", "_native_batch_norm_legit_no_training"),
    )
)
"""Operations with an output like their input, which PyTorch needs a millisecond of Python to infer."""


class _Known(NamedTuple):
    """Properties of an operation according to PyTorch.

    Attributes:
        operation: Name, as for `Call`.
        random: Whether it draws random numbers.
        writes: Positions and names of the arguments that it writes to.
        returns: Number of tensors that it returns.
    """

    operation: str
    random: bool
    writes: tuple[tuple[int, str], ...]
    returns: int


@cache
def _known(func: Any) -> _Known:
    schema = func._schema
    writes = [
        (i, argument.name)
        for i, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    random = torch.Tag.nondeterministic_seeded in func.tags
    return _Known(schema.name.rstrip("_"), random, tuple(writes), len(schema.returns))


def _shapes(known: _Known, func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation on tensors without numbers."""
    if known.operation not in _POINTWISE or "out" in kwargs:
        return func(*args, **kwargs)
    if known.writes:  # in place
        return args[0]
    like = _empty_like(args[0])
    return like if known.returns == 1 else (like, *(like.new_empty(0) for _ in range(known.returns - 1)))


def _empty_like(meta: Tensor) -> Tensor:
    if meta.is_contiguous() or (meta.ndim == 4 and meta.is_contiguous(memory_format=torch.channels_last)):
        return torch.empty_strided(meta.shape, meta.stride(), dtype=meta.dtype, device="meta")
    return torch.empty_like(meta)


def _memory(blank: Blank) -> int:
    """A key that is the same for all tensors that share memory."""
    return blank.meta.untyped_storage()._cdata


def _memory_of(constant: Tensor) -> int:
    """As `_memory`, for a tensor with numbers. Sparse tensors, whose memory has several parts, share none."""
    return constant.untyped_storage()._cdata if constant.layout == torch.strided else id(constant)


def _written(known: _Known, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The arguments that an operation writes to."""
    for i, name in known.writes:
        yield from _tensors(args[i] if i < len(args) else kwargs.get(name))


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _tensors(part)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def _mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """A tree of tuples, lists and dictionaries, with a function applied to its tensors."""
    kind = type(tree)
    if kind in _ATOMS:
        return tree
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, (tuple, list)):
        return kind([part if type(part) in _ATOMS else _mapped(part, change) for part in tree])
    if isinstance(tree, dict):
        return {key: _mapped(part, change) for key, part in tree.items()}
    return tree


def _needed(calls: Sequence[Call], last: Value) -> tuple[Call, ...]:
    """The calls on which a value depends."""
    wanted = {last.number}
    needed: list[Call] = []
    for call in reversed(calls):
        if wanted & {value.number for value in call.outputs}:
            needed.append(call)
            wanted.update(value.number for value, _ in call.reads)
    return tuple(reversed(needed))


def _check_modules(model: nn.Module) -> None:
    """Refuse modules that would behave differently on other images, or would notice the recording."""
    for name, module in model.named_modules():
        where = f"{name or 'the network'} ({type(module).__name__})"
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(getattr(module, kind, None) for kind in hooks):
            raise NoLeanForm(f"{where} has hooks")
        if module._compiled_call_impl is not None or hasattr(module, "_orig_mod"):
            raise NoLeanForm(f"{where} is compiled")


def _check_autograd(calls: Sequence[Call], last: Blank) -> None:
    """Compare the recording with the graph that autograd built in the same run.

    Raises: NoLeanForm if a value has no gradient, or its gradient is not that of the recorded operation.
    """
    nodes: dict[int, Any] = {last.value.number: last.grad_fn}
    for call in calls:
        for value, node in call.reads:
            if value.number != IMAGE and nodes.setdefault(value.number, node) is not node:
                raise NoLeanForm(f"the gradient of what {call.operation} reads is not the same everywhere")
    for call in calls:
        known = {id(nodes[value.number]): nodes[value.number] for value in call.outputs if value.number in nodes}
        for node in known.values():
            if node is None or not _is_of(node, call.operation):
                raise NoLeanForm(f"{call.operation} has the gradient {node and node.name()}")
            before = {id(other) for other, _ in node.next_functions if other is not None and not _is_leaf(other)}
            images = any(_is_leaf(other) for other, _ in node.next_functions if other is not None)
            reads = {id(nodes[value.number]) for value, _ in call.reads if value.number != IMAGE}
            if before != reads or images != any(value.number == IMAGE for value, _ in call.reads):
                raise NoLeanForm(f"the gradient of {call.operation} goes elsewhere")


def _is_leaf(node: Any) -> bool:
    return node.name() == "torch::autograd::AccumulateGrad"


def _is_of(node: Any, operation: str) -> bool:
    """Whether an autograd node is PyTorch's own for an operation, or that of an operator of this project."""
    namespace, name = operation.split("::")
    said = str(node.name())
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        return namespace == "replknet" and said == f"GeneratedBackwardFor_{namespace}_{name}_defaultBackward"
    plain = name.replace("_", "").lower()
    return said.lower().rstrip("0123456789") == f"{plain}backward"

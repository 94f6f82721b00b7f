"""Copies of a network that share its tensors, so that the network itself can stay unchanged."""

import copy
import copyreg
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from erf.gradient.layers.known import share_known
from runkit.plugins import words_of

__all__ = ["CannotCopy", "copy_network"]

_ATOMS = frozenset([bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device])
"""Immutable types."""
_CONTAINERS = frozenset([dict, OrderedDict, set])
_OWN = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
_NO_TENSORS = _ATOMS | _CONTAINERS | {list, tuple}
_COMPILED = "_compiled_call_impl"
"""Attribute of a compiled module, which modules exclude from their state."""


class CannotCopy(Exception):
    """The network cannot be copied, since it holds a lock, a generator, scripted modules, or the like."""


def copy_network(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A second network of the same structure, which can be changed without changing the first.

    Args:
        model: Left as it is.
        dtype: Data type of the copy's floating-point tensors; None to share the tensors themselves, which takes no
            memory.

    Returns: The copy, in the same modes as `model`. None of its parameters requires a gradient.
    Raises: CannotCopy.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise CannotCopy("it is scripted, wholly or in part")
    try:
        return _copy(model, dtype)
    except Exception as error:  # an attribute may define its own way of being copied, or forbid it
        raise CannotCopy(f"it cannot be copied ({words_of(error)})") from error


def _copy(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    memo: dict[int, Any] = {}
    shells: list[tuple[nn.Module, nn.Module]] = []
    for module in model.modules():
        others = [value for value in vars(module).values() if type(value) not in _NO_TENSORS]
        for tensor in (*module._parameters.values(), *module._buffers.values(), *others):
            if isinstance(tensor, Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = _copy_tensor(tensor, dtype)
        if _is_ordinary(type(module)):
            shell = type(module).__new__(type(module))
            memo[id(module)] = shell
            shells.append((module, shell))
    for module, shell in shells:
        own = vars(shell)
        for name, value in vars(module).items():
            kind = type(value)
            if kind in _ATOMS:
                own[name] = value
            elif not value and name in _OWN and kind in _CONTAINERS:  # the most common case
                own[name] = kind()
            else:
                own[name] = _copied(value, memo)
        own.pop(_COMPILED, None)
    copied = copy.deepcopy(model, memo)
    if dtype is None:
        share_known(copied, model)
    return copied


def _is_ordinary(kind: type[nn.Module]) -> bool:
    """Whether `copy.deepcopy` merely copies a module's attributes, so that a faster way gives the same result."""
    if issubclass(kind, nn.RNNBase) or not kind.__setstate__.__module__.startswith("torch.nn.modules."):
        return False  # PyTorch's own modules only add what old checkpoints lack, except for the recurrent ones
    return (
        kind.__new__ is object.__new__
        and kind.__reduce__ is object.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and getattr(kind, "__getstate__", None) is getattr(nn.Module, "__getstate__", None)
        and not hasattr(kind, "__deepcopy__")
        and kind not in copyreg.dispatch_table
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]
    )


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """As `copy.deepcopy`, but faster for the most common kinds of module attributes."""
    kind = type(value)
    if id(value) in memo:
        return memo[id(value)]
    if kind is tuple and all(type(part) in _ATOMS for part in value):
        return value
    if kind not in _CONTAINERS or (value and not (kind is dict and _holds_known(value, memo))):
        return copy.deepcopy(value, memo)
    copied = {name: part if part is None else memo[id(part)] for name, part in value.items()} if value else kind()
    memo[id(value)] = copied
    return copied


def _holds_known(value: dict[Any, Any], memo: dict[int, Any]) -> bool:
    """Whether a dictionary maps names to tensors and modules that have all been copied already."""
    return all(type(name) is str and (part is None or id(part) in memo) for name, part in value.items())


def _copy_tensor(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    data = tensor.detach()
    if dtype is not None and tensor.is_floating_point():
        data = data.to(dtype)
    return nn.Parameter(data, requires_grad=False) if isinstance(tensor, nn.Parameter) else data

"""A cache of facts found by running a network. It is valid as long as the network does not change."""

import weakref
from collections.abc import Hashable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["drop_known", "forget_if_changed", "known_of", "share_known"]


class _Entry(NamedTuple):
    """The cached facts about one network.

    Attributes:
        network: Weak reference to the network. If it is dead, its address may belong to another network.
        found: The cached results, keyed by the question.
        signature: Fingerprint of the network at that time; None if it was not taken.
    """

    network: "weakref.ref[nn.Module]"
    found: dict[Hashable, Any]
    signature: Hashable = None


_KNOWN: dict[int, _Entry] = {}


def known_of(model: nn.Module) -> dict[Hashable, Any]:
    """The cache of a network, to read from and to add to."""
    entry = _KNOWN.get(id(model))
    if entry is None or entry.network() is not model:
        entry = _keep(model, {})
    return entry.found


def share_known(copied: nn.Module, model: nn.Module) -> None:
    """Let a copy that computes the same share the cache of a network."""
    _keep(copied, known_of(model))


def drop_known(model: nn.Module, question: str) -> None:
    """Drop the answers to a question from the cache of a network and of the copies that share it.

    Args:
        question: First entry of the keys, such as 'steady'.
    """
    found = known_of(model)
    for key in [key for key in found if isinstance(key, tuple) and key[0] == question]:
        del found[key]


def forget_if_changed(model: nn.Module) -> None:
    """Drop the cache of a network whose structure, attributes or weights have changed since it was filled."""
    signature, entry = _signature(model), _KNOWN.get(id(model))
    if entry is None or entry.network() is not model or entry.signature != signature:
        _KNOWN[id(model)] = _keep(model, {})._replace(signature=signature)


def _keep(model: nn.Module, found: dict[Hashable, Any]) -> _Entry:
    key = id(model)

    def forget(reference: "weakref.ref[nn.Module]") -> None:
        if key in _KNOWN and _KNOWN[key].network is reference:
            del _KNOWN[key]

    _KNOWN[key] = _Entry(weakref.ref(model, forget), found)
    return _KNOWN[key]


def _signature(model: nn.Module) -> Hashable:
    """Fingerprint of a network: its modules, their attributes, and the memory addresses of their numbers."""
    found: list[Hashable] = []
    for module in model.modules():
        found.append(id(module))
        found.extend(_said(value) for value in vars(module).values())
    return tuple(found)


_SIMPLE = frozenset([bool, int, float, str, type(None)])
_WITHOUT_VALUES = (nn.Module, type, FunctionType, ModuleType)
_MOST_DEPTH = 4


def _said(value: Any, depth: int = _MOST_DEPTH) -> Hashable:
    """Fingerprint of an attribute: numbers, strings and their containers by value, everything else by identity.

    The attributes of an object, such as a configuration, count as well.
    """
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if isinstance(value, torch.Tensor):
        return (id(value), 0 if value.is_inference() else value._version, value.dtype, _address(value))
    if not depth:
        return id(value)
    if isinstance(value, dict):
        return (*value, *(_said(one, depth - 1) for one in value.values())) if value else ()
    if kind in (tuple, list):
        return (kind, *(_said(one, depth - 1) for one in value))
    own = None if isinstance(value, _WITHOUT_VALUES) else getattr(value, "__dict__", None)
    return (id(value), _said(own, depth - 1)) if isinstance(own, dict) else id(value)


def _address(tensor: torch.Tensor) -> int:
    """Address of the numbers of a tensor, which `tensor.data = ...` changes."""
    return tensor.data_ptr() if tensor.layout == torch.strided else 0

"""A cache of what was found out by running a network, valid as long as the network does not change."""

import weakref
from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["forget_if_changed", "known_of", "share_known"]


class _Entry(NamedTuple):
    """What is known of a network.

    Attributes:
        network: Whether it is still there; its address may belong to another one later.
        found: By what was asked.
        signature: What the network was like then; None if that was not asked.
    """

    network: "weakref.ref[nn.Module]"
    found: dict[Hashable, Any]
    signature: Hashable = None


_KNOWN: dict[int, _Entry] = {}


def known_of(model: nn.Module) -> dict[Hashable, Any]:
    """What is known of a network, to be looked up and added to."""
    entry = _KNOWN.get(id(model))
    if entry is None or entry.network() is not model:
        entry = _keep(model, {})
    return entry.found


def share_known(copied: nn.Module, model: nn.Module) -> None:
    """Let a copy, which computes the same, know what is known of a network."""
    _keep(copied, known_of(model))


def forget_if_changed(model: nn.Module) -> None:
    """Forget what is known of a network that has another structure, other attributes or other weights than then."""
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
    """What a network is like: its modules, their attributes, and which numbers they hold."""
    found: list[Hashable] = []
    for module in model.modules():
        found.append(id(module))
        found.extend(_said(value) for value in vars(module).values())
    return tuple(found)


_SIMPLE = frozenset([bool, int, float, str, type(None)])


def _said(value: Any) -> Hashable:
    """An attribute: numbers, words, and what holds them by their values, everything else by which object it is."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if isinstance(value, torch.Tensor):
        return (id(value), 0 if value.is_inference() else value._version, value.dtype, _address(value))
    if isinstance(value, dict):
        return (*value, *map(_said, value.values())) if value else ()
    return (kind, *map(_said, value)) if kind in (tuple, list) else id(value)


def _address(tensor: torch.Tensor) -> int:
    """Where the numbers are, which `tensor.data = ...` changes."""
    return tensor.data_ptr() if tensor.layout == torch.strided else 0

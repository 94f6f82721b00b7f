"""A network made ready for contribution maps: its form, arithmetic and memory."""

from typing import NamedTuple

import torch
from torch import nn

from erf.gradient.lean.network import LeanNetwork
from erf.gradient.lean.trace import lean_form
from replknet.optimize import optimize, preferred_memory_format, use_stock_convolutions
from runkit.compute.memory import keep_freed_memory

__all__ = ["Prepared", "prepare"]


class Prepared(NamedTuple):
    """A network, and the memory format of images that it runs fastest with."""

    network: nn.Module | LeanNetwork
    memory_format: torch.memory_format


def prepare(model: nn.Module, *, layer: str | int = "last", plain: bool = False) -> Prepared:
    """The form in which a network runs, in place, on the device and in the type that it has.

    Args:
        model: In eval mode.
        layer: The feature map wanted, as for `erf.gradient.contribution.feature_map`.
        plain: Whether to leave the network as it was published, to the bit.
    """
    if plain:
        return Prepared(use_stock_convolutions(model), torch.contiguous_format)
    model = optimize(model)
    memory_format = preferred_memory_format(model)
    if next(model.parameters()).device.type != "cpu":
        return Prepared(model, memory_format)
    network = lean_form(model, layer) or model
    keep_freed_memory()
    return Prepared(network, memory_format)

"""Prepare a network for contribution maps: its form, its arithmetic and its memory format."""

from typing import Any, NamedTuple

import torch
from torch import nn

from erf.gradient.lean.copies import CannotCopy, copy_network
from erf.gradient.lean.form import FastForm, PlainForm
from erf.gradient.lean.proof import ProvenForm
from erf.results.content import FieldForm
from replknet.architectures.replknet import RepLKNet
from replknet.optimize import optimize, preferred_memory_format, use_stock_convolutions
from runkit.compute.memory import keep_freed_memory

__all__ = ["Prepared", "prepare"]


class Prepared(NamedTuple):
    """What runs in place of a network.

    Attributes:
        network: The network, for `erf.gradient.contribution.central_gradients` with the layer it was prepared for.
        memory_format: Memory format of images with which it runs fastest.
    """

    network: nn.Module | FastForm
    memory_format: torch.memory_format

    def as_dict(self) -> FieldForm:
        """For the provenance of a result: `form`, 'lean' or 'plain', and `form_reason`; None before the first image."""
        if isinstance(self.network, FastForm):
            return {"form": self.network.form, "form_reason": self.network.reason or None}
        return {"form": "plain", "form_reason": "asked for"}


def prepare(
    model: nn.Module,
    *,
    layer: Any = "last",
    plain: bool = False,
    in_place: bool = True,
    cuda_graphs: bool = False,
) -> Prepared:
    """Choose the form in which a network runs, on its current device and in its current type.

    By default this is the lean form (`erf.gradient.lean.network`), if the network has one and that form is proven to
    agree with the network as it was given (`erf.gradient.lean.proof`). The proof is made for each image size and each
    position, when the first such images arrive. If it fails, the network itself runs.

    Args:
        model: In eval mode.
        layer: The feature map wanted, as for `erf.gradient.contribution.feature_map`.
        plain: Whether to run the network as it was published, identical to the bit.
        in_place: Whether the network may be changed: its weights laid out differently, RepLKNet merged. Otherwise a
            copy that shares the weights is changed, and the network is left as it is. A network that cannot be copied
            runs unchanged.
        cuda_graphs: Whether to record the operations on a GPU and replay them (`erf.gradient.graphs`). This has no
            effect on a CPU or together with `plain`.

    Raises: ValueError if the network is in train mode.
    """
    if model.training:
        raise ValueError("prepare() is for inference: call model.eval() first")
    if isinstance(model, torch.jit.ScriptModule):
        return Prepared(PlainForm(model, layer, "it is scripted"), torch.contiguous_format)
    try:
        return _prepare(model, layer=layer, plain=plain, in_place=in_place, cuda_graphs=cuda_graphs)
    except CannotCopy as error:
        return Prepared(PlainForm(model, layer, str(error)), torch.contiguous_format)


def _prepare(model: nn.Module, *, layer: Any, plain: bool, in_place: bool, cuda_graphs: bool) -> Prepared:
    if plain:
        return Prepared(use_stock_convolutions(model if in_place else copy_network(model)), torch.contiguous_format)
    if not in_place:
        model = copy_network(model)
    original = copy_network(model) if isinstance(model, RepLKNet) else None
    model = optimize(model)
    keep_freed_memory()
    return Prepared(ProvenForm(model, layer, original, cuda_graphs=cuda_graphs), preferred_memory_format(model))

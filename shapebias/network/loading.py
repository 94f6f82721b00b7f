"""A network made ready to be asked."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from replknet.optimize import optimize
from replknet.zoo import Preprocessing, ResolvedWeights, WeightsRecord
from runkit.compute.memory import keep_freed_memory
from shapebias.network.inference import TOOLBOX_PREPROCESSING, StimulusReader, check_head
from shapebias.network.precision import PrecisionEffect, reduce_precision
from shapebias.stimuli.images import Stimulus

__all__ = ["LoadedNetwork", "find_precision_effect", "load_network"]

_logger = logging.getLogger(__name__)
_COMPARED_IMAGES = 16  # that a reduced precision is tried on


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with weights, made ready, and what a result says about it.

    Attributes:
        model: In its fast form, on the device, in the precision asked for.
        preprocessing: That its images get.
        record: Of its weights.
        model_args: That it was built with.
        precision_effect: What a reduced precision changes; None in float32.
    """

    model: nn.Module
    preprocessing: Preprocessing
    record: WeightsRecord
    model_args: dict[str, Any]
    precision_effect: PrecisionEffect | None = None


def load_network(weights: ResolvedWeights, *, preprocessing: str, device: torch.device) -> LoadedNetwork:
    """The network in its fast form on the device, in float32.

    Args:
        preprocessing: "model" for the network's own, "toolbox" for the same for all.

    Raises: UserError if the weights do not fit, or its classes are not those of ImageNet-1k.
    """
    from replknet.zoo import load_model

    toolbox = preprocessing == "toolbox"
    loaded = load_model(weights, input_size=TOOLBOX_PREPROCESSING.input_size if toolbox else None)
    check_head(loaded.model, weights.name)
    if device.type == "cpu":
        keep_freed_memory()
    model = optimize(loaded.model).to(device)
    given = TOOLBOX_PREPROCESSING if toolbox else loaded.preprocessing
    return LoadedNetwork(model, given, loaded.record, loaded.model_args)


def find_precision_effect(
    network: LoadedNetwork, precision: str, stimuli: Sequence[Stimulus], reader: StimulusReader, *, name: str
) -> PrecisionEffect:
    """Convert a float32 network, in place, to a reduced precision; what that changes on some stimuli."""
    some = stimuli[:: max(1, len(stimuli) // _COMPARED_IMAGES)][:_COMPARED_IMAGES]
    device = next(network.model.parameters()).device
    effect = reduce_precision(
        network.model,
        getattr(torch, precision),
        some,
        preprocessing=network.preprocessing,
        device=device,
        reader=reader,
        name=name,
    )
    _logger.info(
        "%s: %s against float32 on %d images: %d decisions changed, largest difference of a probability %.2g",
        name,
        precision,
        effect.images,
        effect.decisions_changed,
        effect.largest_difference,
    )
    return effect

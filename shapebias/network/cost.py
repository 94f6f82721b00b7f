"""Estimates of the time and memory that a network needs, from batches of black images."""

from functools import partial

import torch

from replknet.zoo import ResolvedWeights, for_trial
from runkit.compute.probe import count_macs, extrapolate, probe
from runkit.dry_run import Cost
from shapebias.network.forward import logits_of
from shapebias.network.heads import ClassChoice
from shapebias.network.inference import ask_black, default_batch_size
from shapebias.network.loading import load_network
from shapebias.options import Config

__all__ = ["estimate_cost"]

_PROBE_IMAGES = (1, 4)  # batch sizes that are measured


def estimate_cost(
    weights: ResolvedWeights, config: Config, device: torch.device, images: int, classes: ClassChoice = "auto"
) -> Cost:
    """Estimate the cost of classifying a number of images, from batches of black images in the untrained network.

    The head of a user's checkpoint is not known at this point, so its classes are not checked.

    Raises: UserError as `load_network`.
    """
    untrained = for_trial(weights)
    name = weights.name
    network = load_network(
        untrained,
        preprocessing=config.preprocessing,
        device=device,
        mean=config.mean,
        std=config.std,
        classes=None if weights.record.source == "file" else classes,
    )
    dtype = getattr(torch, config.precision)
    model, (height, width) = network.model.to(dtype), network.preprocessing.input_size
    one = (1, network.preprocessing.channels, height, width)
    macs = count_macs(lambda: logits_of(model, torch.empty(one, device=device, dtype=dtype), name=name))
    probes = [
        probe(
            partial(ask_black, model, count, network.preprocessing, device, name),
            device,
            macs=count * macs,
            pixels=count * height * width,
        )
        for count in _PROBE_IMAGES
    ]
    batch_size = config.batch_size or default_batch_size(device)
    batch = extrapolate(probes, macs=batch_size * macs, pixels=batch_size * height * width)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, macs, batch.seconds * images / batch_size, batch.peak_bytes)

"""Prepare a network, and describe the provenance of its probabilities."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import nn

from replknet.optimize import optimize
from replknet.used_kernels import describe_kernels, has_large_depthwise
from replknet.zoo import Preprocessing, ResolvedWeights, WeightsRecord
from runkit import UserError, describe_run
from runkit.compute.memory import keep_freed_memory
from runkit.compute.provenance import describe_computation
from runkit.compute.rounds import Loop
from shapebias.answers.content import NetworkMaking, PrecisionDifference
from shapebias.answers.observers import RANDOM_SUFFIX
from shapebias.network.heads import ClassChoice, choose_classes, outputs_of, refuse_missing_head
from shapebias.network.inference import TOOLBOX_PREPROCESSING, StimulusReader, check_channels
from shapebias.network.precision import PrecisionEffect, reduce_precision
from shapebias.options import Config
from shapebias.stimuli.categories import IMAGENET_1K, ClassMap
from shapebias.stimuli.images import Stimuli

__all__ = ["LoadedNetwork", "describe_answers", "label_of", "load_network", "subject_of"]

_logger = logging.getLogger(__name__)
_COMPARED_IMAGES = 16  # number of images on which a reduced precision is compared with float32


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with weights, ready for use, and its metadata for results.

    Attributes:
        model: The network, optimised for inference, on the device and in the requested precision.
        preprocessing: Preprocessing of its images.
        record: Record of its weights.
        model_args: Arguments with which it was built.
        classes: The classes of its outputs.
        precision_effects: Experiment -> effect of a reduced precision on its images; empty in float32.
    """

    model: nn.Module
    preprocessing: Preprocessing
    record: WeightsRecord
    model_args: dict[str, Any]
    classes: ClassMap = IMAGENET_1K
    precision_effects: Mapping[str, PrecisionEffect] = field(default_factory=dict)


def load_network(
    weights: ResolvedWeights,
    *,
    preprocessing: str,
    device: torch.device,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: ClassChoice | None = "auto",
) -> LoadedNetwork:
    """Load a network, optimised for inference, onto the device, in float32.

    Args:
        weights: The network and its weights.
        preprocessing: "model" for the network's own preprocessing, "toolbox" for that of the toolbox.
        device: Where to run.
        mean, std: Mean and standard deviation to use with "model" instead of the network's own; None for its own.
        classes: The classes of its outputs, as for `choose_classes`; None if they do not matter.

    Raises: UserError if the weights do not fit or lack the head, the classes of the outputs are not known, or the
        network takes neither colour nor grey images, or grey images with the preprocessing of the toolbox.
    """
    from replknet.zoo import load_model

    toolbox = preprocessing == "toolbox"
    loaded = load_model(weights, input_size=TOOLBOX_PREPROCESSING.input_size if toolbox else None)
    given = TOOLBOX_PREPROCESSING if toolbox else loaded.preprocessing.normalised_by(mean, std)
    check_channels(loaded.preprocessing, weights.name)
    if loaded.preprocessing.channels != given.channels:
        raise UserError(
            f"{weights.name} takes grey images, and the toolbox's are coloured; leave --preprocessing toolbox out"
        )
    refuse_missing_head(loaded, given, name=weights.name)
    if device.type == "cpu":
        keep_freed_memory()
    model = optimize(loaded.model).to(device)
    known = IMAGENET_1K
    if classes is not None:
        known = choose_classes(outputs_of(model, given, device, name=weights.name), classes, name=weights.name)
    return LoadedNetwork(model, given, loaded.record, loaded.model_args, known)


def find_precision_effects(
    network: LoadedNetwork, precision: str, sets: Sequence[Stimuli], reader: StimulusReader, *, name: str
) -> dict[str, PrecisionEffect]:
    """Convert a float32 network, in place, to a reduced precision, and find how its answers change.

    Args:
        network: The network, in float32.
        precision: The reduced precision, such as "bfloat16".
        sets: The stimuli of each experiment; up to 16 of each are compared.
        reader: Decodes the images.
        name: Name of the network, for messages.
    Returns: Name of the experiment -> effect of the reduced precision on these stimuli.
    """
    effects = reduce_precision(
        network.model,
        getattr(torch, precision),
        *(stimuli[:: max(1, len(stimuli) // _COMPARED_IMAGES)][:_COMPARED_IMAGES] for stimuli in sets),
        preprocessing=network.preprocessing,
        device=next(network.model.parameters()).device,
        reader=reader,
        name=name,
        classes=network.classes,
    )
    for stimuli, effect in zip(sets, effects, strict=True):
        _logger.info(
            "%s: %s against float32 on %d %s: %d decisions changed, largest difference of a probability %.2g",
            name,
            precision,
            effect.images,
            "images" if len(sets) == 1 else stimuli.experiment.what,
            effect.decisions_changed,
            effect.largest_difference,
        )
    return {stimuli.experiment.name: effect for stimuli, effect in zip(sets, effects, strict=True)}


def subject_of(weights: ResolvedWeights) -> str:
    """Return the `subj` of a network's CSV: its full name, with a suffix if it is untrained."""
    if weights.record.random:
        return weights.name + RANDOM_SUFFIX
    return weights.name if weights.record.source == "file" else weights.record.model


def label_of(weights: ResolvedWeights) -> str:
    """Return the name of a network for figures and tables, which mentions random weights or a user's checkpoint."""
    record = weights.record
    named = record.random or record.source == "file"
    return f"{weights.name}, {record.label}" if named else subject_of(weights)


def describe_answers(
    weights: ResolvedWeights, config: Config, network: LoadedNetwork, stimuli: Stimuli, loop: Loop, device: torch.device
) -> NetworkMaking:
    """Describe the provenance of probabilities, without what determines them (`config`); see docs/file-formats.md."""
    preprocessing, effect = network.preprocessing, network.precision_effects.get(stimuli.experiment.name)
    about: NetworkMaking = {
        **describe_run(program="shapebias.run", arguments=config.arguments, started=loop.started, seconds=loop.seconds),
        "subject": subject_of(weights),
        "label": label_of(weights),
        "seed": config.seed,
        "precision": config.precision,
        "precision_check": None if effect is None else cast(PrecisionDifference, asdict(effect)),
        **describe_computation(loop, device),
        **describe_kernels(device, large_depthwise=has_large_depthwise(network.model)),
        "images_per_second": round(loop.images_per_second, 2),
        "weights": network.record.as_dict(),
        "model_args": network.model_args,
        "data": {
            **stimuli.describe(),
            "preprocessing": {
                "choice": config.preprocessing,
                "mean": list(preprocessing.mean),
                "std": list(preprocessing.std),
                "input_size_px": list(preprocessing.input_size),
                "interpolation": preprocessing.interpolation,
                "crop": None,
            },
        },
    }
    if network.classes != IMAGENET_1K:
        about["classes"] = {
            "name": network.classes.name,
            "outputs": network.classes.num_classes,
            "categories": network.classes.categories,
            "comparable": network.classes.complete,
        }
    return about

"""What a network's probabilities say about their making: the weights, the stimuli, the computation."""

from dataclasses import asdict
from typing import Any

import torch

from replknet.zoo import ResolvedWeights
from runkit import describe_run
from runkit.compute.provenance import describe_computation
from runkit.compute.rounds import Loop
from shapebias.answers.observers import RANDOM_SUFFIX
from shapebias.network.loading import LoadedNetwork
from shapebias.options import Config
from shapebias.stimuli.images import Stimuli

__all__ = ["describe_answers", "label_of", "subject_of"]


def subject_of(weights: ResolvedWeights) -> str:
    """The `subj` of a network's CSV: its full name; untrained ones say so."""
    if weights.record.random:
        return weights.name + RANDOM_SUFFIX
    return weights.name if weights.record.source == "file" else weights.record.model


def label_of(weights: ResolvedWeights) -> str:
    """How pictures and tables call a network: random weights and a user's checkpoint are named."""
    record = weights.record
    named = record.random or record.source == "file"
    return f"{weights.name}, {record.label}" if named else subject_of(weights)


def describe_answers(
    weights: ResolvedWeights, config: Config, network: LoadedNetwork, stimuli: Stimuli, loop: Loop, device: torch.device
) -> dict[str, Any]:
    """The provenance of probabilities, without what decides them (`config`); see docs/file-formats.md."""
    preprocessing, effect = network.preprocessing, network.precision_effect
    return {
        **describe_run(program="shapebias.run", arguments=config.arguments, started=loop.started, seconds=loop.seconds),
        "subject": subject_of(weights),
        "label": label_of(weights),
        "seed": config.seed,
        "precision": config.precision,
        "precision_check": effect and asdict(effect),
        **describe_computation(loop, device),
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

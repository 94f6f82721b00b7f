"""Compute the answers of a network to the same images under every suppression.

Threads prepare the suppressed images while the network runs (`shapebias.stimuli.suppressed`). The network's own mean
and standard deviation are applied to whole batches.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from replknet.optimize import optimize
from replknet.zoo import Preprocessing, ResolvedWeights, for_trial, load_model
from runkit import UserError
from runkit.compute.device import exact_float32
from runkit.compute.memory import available_memory, fitting_batch_size
from runkit.compute.probe import count_macs, extrapolate, probe
from runkit.compute.rounds import Loop, Packed
from runkit.dry_run import Cost
from shapebias.answers.suppressed import keep_top
from shapebias.network.forward import LogitsOf, class_probabilities, dtype_of, logits_of
from shapebias.stimuli.suppressed import SuppressedImages, SuppressedItem

__all__ = ["estimate_cost", "name_outputs", "predict_suppressed", "room_for_images"]


_KEPT_PART = 0.4
"""Fraction of the free memory that suppressed images may take."""


class _Made(NamedTuple):
    """An item and its pixels: uint8 (H, W, 3)."""

    item: SuppressedItem
    pixels: np.ndarray


def room_for_images() -> int:
    """Return the memory, in bytes, for suppressed images that are kept for further networks."""
    return int(_KEPT_PART * available_memory(torch.device("cpu")))


def name_outputs(outputs: int) -> dict[str, list[int]]:
    """Map WordNet ids and class names of an ImageNet head, recognised by its number of outputs, to the outputs.

    Some names are those of several outputs, such as "crane", which is a bird and a machine. The result is empty if timm
    knows no ImageNet head with this number of outputs.
    """
    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return {}
    info = ImageNetInfo(subset)
    names: dict[str, list[int]] = {}
    for index in range(outputs):
        label = info.index_to_label_name(index)
        words = [word.strip().lower() for word in info.label_name_to_description(label).split(",")]
        for name in dict.fromkeys([label, *words]):
            names.setdefault(name, []).append(index)
    return names


def predict_suppressed(
    model: nn.Module,
    images: SuppressedImages,
    labels: np.ndarray | None,
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    name: str,
    outputs: int,
    loop: Loop,
) -> dict[str, np.ndarray]:
    """Compute a network's answers to every variant of every image.

    Args:
        model: Network in eval mode, on `device`.
        images: N images and V variants.
        labels: int64 (N,): the right outputs; None without labels.
        preprocessing: The network's mean, standard deviation and input size.
        device: Device of the model.
        name: Name of the network, for messages.
        outputs: Number of its outputs, from `shapebias.network.heads.count_outputs`.
        loop: The loop over the N * V items, image by image; it resumes from its saved progress.
    Returns: The arrays of `shapebias.answers.suppressed.keep_top`, each (V, N, ...).
    Raises: UserError for an unreadable image, outputs that are not finite, or as `logits_of`.
    """
    items = [SuppressedItem(v, n) for n in range(len(images.images)) for v in range(len(images.variants))]
    saved = dict(loop.saved.arrays) if loop.saved else {}
    done = len(saved["top_outputs"]) if saved else 0
    size = preprocessing.input_size

    def ask(batch: Sequence[_Made]) -> list[Mapping[str, np.ndarray]]:
        probabilities = class_probabilities(
            model, [made.pixels for made in batch], preprocessing, device, name=name, outputs=outputs
        )
        if not np.isfinite(probabilities).all():
            raise UserError(f"{name} answers with numbers that are not finite; its weights are damaged")
        right = None if labels is None else labels[[made.item.image for made in batch]]
        kept = keep_top(probabilities, right)
        return [{key: values[i] for key, values in kept.items()} for i in range(len(batch))]

    def add(
        parts: tuple[Mapping[str, np.ndarray], ...], answers: list[Mapping[str, np.ndarray]]
    ) -> tuple[Mapping[str, np.ndarray], ...]:
        return (*parts, {key: np.stack([one[key] for one in answers]) for key in answers[0]})

    def pack(parts: tuple[Mapping[str, np.ndarray], ...]) -> Packed:
        return _join(parts), {}

    def fitting() -> int:
        black = np.zeros((*size, 3), np.uint8)
        limit = 256 if device.type == "cuda" else 32
        one = partial(class_probabilities, model, [black], preprocessing, device, name=name, outputs=outputs)
        return fitting_batch_size(one, device, limit=limit)

    with torch.inference_mode(), exact_float32():
        model = LogitsOf(model, name=name)
        begun: tuple[Mapping[str, np.ndarray], ...] = (saved,) if saved else ()
        parts = loop.run(
            begun,
            items,
            done=done,
            read=lambda chosen: [_Made(item, images.make(item, size)) for item in chosen],
            work=ask,
            add=add,
            pack=pack,
            fitting=fitting,
        )
    shape = (len(images.images), len(images.variants))
    return {key: np.moveaxis(values.reshape(*shape, *values.shape[1:]), 1, 0) for key, values in _join(parts).items()}


def estimate_cost(weights: ResolvedWeights, device: torch.device, images: int, *, batch_size: int | None) -> Cost:
    """Estimate the cost of classifying a number of images, from batches of black images in the untrained network."""
    untrained = for_trial(weights)
    loaded = load_model(untrained)
    model, preprocessing = optimize(loaded.model).to(device), loaded.preprocessing
    height, width = preprocessing.input_size
    black = np.zeros((height, width, 3), np.uint8)
    macs = count_macs(
        lambda: logits_of(
            model, torch.empty(1, 3, height, width, dtype=dtype_of(model), device=device), name=weights.name
        )
    )
    with torch.inference_mode():
        probes = [
            probe(
                partial(class_probabilities, model, [black] * count, preprocessing, device, name=weights.name),
                device,
                macs=count * macs,
                pixels=count * height * width,
            )
            for count in (1, 4)
        ]
    together = batch_size or (256 if device.type == "cuda" else 32)
    batch = extrapolate(probes, macs=together * macs, pixels=together * height * width)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, macs, batch.seconds * images / together, batch.peak_bytes)


def _join(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}

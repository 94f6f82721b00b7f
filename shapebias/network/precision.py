"""Reduced precision: the conversion of a network, and how it changes the network's answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from runkit import UserError
from shapebias.answers.decisions import decide
from shapebias.network.inference import predict
from shapebias.stimuli.categories import IMAGENET_1K, ClassMap
from shapebias.stimuli.images import Stimulus

__all__ = ["PrecisionEffect", "check_precision", "reduce_precision"]


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a precision is useful on a device.

    Raises: UserError for float16 on a CPU, where its kernels are many times slower than those of float32.
    """
    if precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 is for GPUs; on a CPU take bfloat16 or float32")


@dataclass(frozen=True)
class PrecisionEffect:
    """How answers in a reduced precision differ from those in float32, on some stimuli.

    Attributes:
        images: Number of stimuli that were classified in both precisions.
        decisions_changed: Number of stimuli whose decision, one of the 16 categories, changed.
        largest_difference: Largest absolute difference of a class probability, in [0, 1].
    """

    images: int
    decisions_changed: int
    largest_difference: float


def reduce_precision(
    model: nn.Module, dtype: torch.dtype, *sets: Sequence[Stimulus], **options: Any
) -> list[PrecisionEffect]:
    """Convert a float32 network, in place, to `dtype`, and compare its answers to stimuli before and after.

    Args:
        model: The network, in float32.
        dtype: The reduced precision.
        sets: Sets of stimuli, which are compared separately.
        options: Options of `predict`.
    Returns: One effect for each set.
    """
    classes = options.get("classes", IMAGENET_1K)
    exact = [predict(model, stimuli, **options) for stimuli in sets]
    model.to(dtype)
    return [
        _compare(before, predict(model, stimuli, **options), classes)
        for before, stimuli in zip(exact, sets, strict=True)
    ]


def _compare(exact: np.ndarray, reduced: np.ndarray, classes: ClassMap) -> PrecisionEffect:
    before, after = (decide(probabilities, classes=classes) for probabilities in (exact, reduced))
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    return PrecisionEffect(len(exact), changed, float(np.abs(exact - reduced).max()))

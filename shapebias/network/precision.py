"""Reduced precision: how it is run, and what it changes in a network's answers."""

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
    """Refuse a precision that is of no use on a device.

    Raises: UserError for float16 on a CPU, whose kernels are many times slower than those of float32.
    """
    if precision == "float16" and device.type == "cpu":
        raise UserError("--precision float16 is for GPUs; on a CPU take bfloat16 or float32")


@dataclass(frozen=True)
class PrecisionEffect:
    """What a reduced precision changed on some stimuli.

    Attributes:
        images: How many stimuli were asked in both precisions.
        decisions_changed: How many of them got another of the 16 categories.
        largest_difference: Between two class probabilities, in [0, 1].
    """

    images: int
    decisions_changed: int
    largest_difference: float


def reduce_precision(
    model: nn.Module, dtype: torch.dtype, *sets: Sequence[Stimulus], **options: Any
) -> list[PrecisionEffect]:
    """Ask a float32 network some stimuli, convert it in place to `dtype`, ask again, and compare.

    Args:
        sets: Stimuli; each set has an effect of its own.
        options: Of `predict`.
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

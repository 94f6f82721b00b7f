"""Confidence intervals: of the mean of few repetitions (Student's t) and of accuracies; and fits of power laws."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from claims.claim import Row
from runkit.intervals import normal_quantile

__all__ = ["LEVEL", "mean_interval", "power_law", "top1_half_interval"]

LEVEL = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of repetitions and the ends of its 95% interval, which are None for a single value."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, None, None
    half = float(special.stdtrit(count - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def power_law(values: Sequence[float], *variables: Sequence[float]) -> list[float]:
    """Exponents of the product of powers of `variables` that best fits `values`, by least squares on the logarithms."""
    logs = [np.log(variable) for variable in variables]
    design = np.column_stack([*logs, np.ones(len(values))])
    solution, *_ = np.linalg.lstsq(design, np.log(values), rcond=None)
    return [float(exponent) for exponent in solution[: len(variables)]]


def top1_half_interval(row: Row) -> float:
    """Half the width of the 95% interval of a row's `top1` over its `val_images`, in percentage points."""
    share = row["top1"] / 100
    return normal_quantile() * 100 * math.sqrt(share * (1 - share) / row["val_images"])

"""A measured number with its interval, for use from Python."""

import math

from erf.measures.bootstrap import LEVEL, Resampled

__all__ = ["Value"]


class Value(float):
    """A number with its confidence interval over images. It computes like any float, and its `repr` shows both.

    The number is NaN if it is not defined. Both ends are NaN if there is no interval.

    Attributes:
        low, high: Ends of the 95% interval over images.
        unit: "px" for lengths, "pixels" for areas, "degrees", or "" for a pure number.
    """

    low: float
    high: float
    unit: str

    def __new__(cls, value: float, low: float = math.nan, high: float = math.nan, unit: str = "") -> "Value":
        self = super().__new__(cls, value)
        self.low, self.high, self.unit = float(low), float(high), unit
        return self

    def __reduce__(self) -> tuple[type["Value"], tuple[float, float, float, str]]:
        return (Value, (float(self), self.low, self.high, self.unit))

    @classmethod
    def of(cls, resampled: Resampled, unit: str = "") -> "Value":
        """The `Value` of a measure that is a single number."""
        low, high = resampled.interval()
        return cls(float(resampled.estimate), float(low), float(high), unit)

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval."""
        return (self.low, self.high)

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if math.isnan(self.low) and math.isnan(self.high):
            return f"{float(self):.4g}{unit}"
        return f"{float(self):.4g}{unit} ({LEVEL:.0%} interval {self.low:.4g} to {self.high:.4g})"

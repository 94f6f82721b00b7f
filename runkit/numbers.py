"""How numbers with an interval are written: with as many digits as the interval requires, the same in every table."""

import math
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["DIFFERENCE", "FRACTION", "Form", "Written", "difference_cells"]

_MOST = 4
"""Maximum number of digits that a narrow interval adds."""


class Written(NamedTuple):
    """A number and the ends of its interval as text; "–" if it is not defined, and no ends if there is no interval."""

    value: str
    low: str = ""
    high: str = ""

    @property
    def brackets(self) -> str:
        """`[low, high]`; "" if there is no interval."""
        return f"[{self.low}, {self.high}]" if self.low else ""

    def __str__(self) -> str:
        return f"{self.value} {self.brackets}".rstrip()


@dataclass(frozen=True)
class Form:
    """How numbers of one kind are written.

    Attributes:
        decimals: Digits after the decimal point. More are written if half of an interval would otherwise show fewer
            than two significant digits: not 0.1% [0.1%, 0.2%], but 0.132% [0.108%, 0.165%].
        factor: Factor by which the number is multiplied.
        unit: Text after the number, such as "%".
        signed: Whether a positive number gets a plus sign.
    """

    decimals: int = 3
    factor: float = 1.0
    unit: str = ""
    signed: bool = False

    def __call__(self, number: float) -> str:
        """Write a number without an interval."""
        return self._text(number, self.decimals)

    def write(self, value: float | None, low: float | None = None, high: float | None = None) -> Written:
        """Write a number with its interval; None stands for undefined numbers."""
        decimals = self._decimals(low, high)
        texts = ["–" if number is None else self._text(number, decimals) for number in (value, low, high)]
        return Written(texts[0]) if low is None and high is None else Written(*texts)

    def _decimals(self, low: float | None, high: float | None) -> int:
        """Digits after the decimal point: at least the usual ones, and two significant digits of half the interval."""
        half = 0.0 if low is None or high is None else self.factor * (high - low) / 2
        if not half > 0 or not math.isfinite(half):
            return self.decimals
        needed = 1 - int(f"{half:.1e}".partition("e")[2])  # exponent of half the interval, written with two digits
        return min(max(self.decimals, needed), self.decimals + _MOST)

    def _text(self, number: float, decimals: int) -> str:
        sign = "+" if self.signed else ""
        return f"{self.factor * number:{sign}.{decimals}f}{self.unit}"


FRACTION = Form()
"""How accuracies, shape bias and similar numbers between 0 and 1 are written."""
DIFFERENCE = Form(signed=True)
"""How differences of such numbers are written."""


def difference_cells(difference: float, low: float, high: float) -> tuple[str, str]:
    """Two table cells: a difference with its sign, and its interval."""
    written = DIFFERENCE.write(difference, low, high)
    return written.value, written.brackets

"""How numbers with an interval are written: with as many digits as the interval calls for, the same in every table."""

import math
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["DIFFERENCE", "FRACTION", "Form", "Written", "difference_cells"]

_MOST = 4
"""Digits that a narrow interval adds at most."""


class Written(NamedTuple):
    """A number and the ends of its interval, as text; "–" for what is not defined, and no ends without an interval."""

    value: str
    low: str = ""
    high: str = ""

    @property
    def brackets(self) -> str:
        """`[low, high]`; "" without an interval."""
        return f"[{self.low}, {self.high}]" if self.low else ""

    def joined(self, by: str) -> str:
        """The ends with a sign or word between them; "-" without an interval."""
        return f"{self.low}{by}{self.high}" if self.low else "-"

    def __str__(self) -> str:
        return f"{self.value} {self.brackets}".rstrip()


@dataclass(frozen=True)
class Form:
    """How numbers of a kind are written.

    Attributes:
        decimals: Digits behind the point; more are written where half of an interval would show fewer than two
            significant digits: not 0.1% [0.1%, 0.2%], but 0.132% [0.108%, 0.165%].
        factor: By which the number is multiplied.
        unit: What stands behind it, such as "%".
        signed: Whether a positive number has its sign.
    """

    decimals: int = 3
    factor: float = 1.0
    unit: str = ""
    signed: bool = False

    def __call__(self, number: float) -> str:
        """The number alone."""
        return self._text(number, self.decimals)

    def write(self, value: float | None, low: float | None = None, high: float | None = None) -> Written:
        """A number with its interval; None for what is not defined."""
        decimals = self._decimals(low, high)
        texts = ["–" if number is None else self._text(number, decimals) for number in (value, low, high)]
        return Written(texts[0]) if low is None and high is None else Written(*texts)

    def _decimals(self, low: float | None, high: float | None) -> int:
        """Digits behind the point: at least the usual ones, and two significant ones of half the interval."""
        half = 0.0 if low is None or high is None else self.factor * (high - low) / 2
        if not half > 0 or not math.isfinite(half):
            return self.decimals
        needed = 1 - int(f"{half:.1e}".partition("e")[2])  # the exponent of the half as it is written with two digits
        return min(max(self.decimals, needed), self.decimals + _MOST)

    def _text(self, number: float, decimals: int) -> str:
        sign = "+" if self.signed else ""
        return f"{self.factor * number:{sign}.{decimals}f}{self.unit}"


FRACTION = Form()
"""How accuracies, shape bias and the like are written; they lie between 0 and 1."""
DIFFERENCE = Form(signed=True)
"""How differences of such numbers are written."""


def difference_cells(difference: float, low: float, high: float) -> tuple[str, str]:
    """Cells of a table: a difference with its sign, and its interval."""
    written = DIFFERENCE.write(difference, low, high)
    return written.value, written.joined(" to ")

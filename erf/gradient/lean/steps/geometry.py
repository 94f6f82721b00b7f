"""Which pixels of its input an operation reads, along one axis."""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Crop", "Geometry", "Span", "WholeMap"]

Span = tuple[int, int]  # first pixel and the one after the last


class Crop(NamedTuple):
    """How to compute a span of the output: the span of input to read, its padding, and how many outputs to drop."""

    span: Span
    padding: tuple[int, int]  # before and after
    skip: int


@dataclass(frozen=True)
class Geometry:
    """Kernel side (dilation included), stride and padding (before and after) along one axis."""

    kernel: int
    stride: int
    padding: tuple[int, int]

    def output_size(self, size: int) -> int:
        """Pixels of the output for an input of `size` pixels."""
        return (size + sum(self.padding) - self.kernel) // self.stride + 1

    def crop(self, span: Span, size: int) -> Crop:
        """Smallest part of an input of `size` pixels that the outputs in `span` read, but at least one pixel.

        Inside the map no padding is needed. At its border, both ends are padded as usual, and outputs outside the span
        are dropped.
        """
        first = span[0] * self.stride - self.padding[0]
        last = (span[1] - 1) * self.stride - self.padding[0] + self.kernel
        if first >= 0 and last <= size:
            return Crop((first, last), (0, 0), 0)
        start = min(max(first, 0), size - 1) // self.stride * self.stride
        return Crop((start, min(max(last, start + 1), size)), self.padding, span[0] - start // self.stride)


@dataclass(frozen=True)
class WholeMap:
    """The geometry of an operation that turns a whole axis into one number."""

    def output_size(self, size: int) -> int:
        return 1

    def crop(self, span: Span, size: int) -> Crop:
        return Crop((0, size), (0, 0), 0)

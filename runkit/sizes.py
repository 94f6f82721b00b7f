"""The size of the images that a network is given: a side in pixels, or height and width."""

import re

__all__ = ["Size", "as_size", "name_of_size", "pixels_of", "read_size"]

Size = int | tuple[int, int]
"""Side of a square image, or (height, width) of one that is not square, in pixels."""


def read_size(text: str) -> Size:
    """Parse a size: `512` or, height first, `384x128`.

    Raises: ValueError for any other text.
    """
    if match := re.fullmatch(r"(-?\d+)(?:[x×](-?\d+))?", text):
        height = int(match[1])
        return as_size((height, int(match[2] or height)))
    raise ValueError(
        f"{text!r} is not a size: give a side in pixels, such as 512, or height and width, such as 384x128"
    )


def as_size(size: Size) -> Size:
    """Reduce the size of a square to its side."""
    height, width = pixels_of(size)
    return height if height == width else (height, width)


def pixels_of(size: Size) -> tuple[int, int]:
    """(height, width) in pixels."""
    if isinstance(size, int):
        return (size, size)
    height, width = size
    return (int(height), int(width))


def name_of_size(size: Size) -> str:
    """The size in the form that `read_size` parses: '512', '384x128'."""
    return str(size) if isinstance(size, int) else "{}x{}".format(*size)

"""Which axes of a recorded tensor are images, channels, rows and columns of a feature map.

The axes of a tensor are a tuple of words of the letters N, C, H and W: ('N', 'C', 'H', 'W') as convolutions have it,
('N', 'H', 'W', 'C') and ('NHW', 'C') as linear layers, ('N', 'HW', 'C') as tokens, '' for an axis of one element that
stands for nothing.
"""

from collections.abc import Sequence

__all__ = ["MAP", "Axes", "viewed"]

Axes = tuple[str, ...]
MAP: Axes = ("N", "C", "H", "W")


def viewed(axes: Axes, sizes: dict[str, int], shape: Sequence[int]) -> Axes | None:
    """The axes of a tensor that is viewed in another shape.

    Args:
        axes: Before.
        sizes: Size of each letter.
        shape: After.

    Returns: None if one of N, C, H and W is cut into parts.
    """
    letters = list("".join(axes))
    found: list[str] = []
    for size in shape:
        word, product = "", 1
        while letters and (product < size or (size == 1 and not word and sizes[letters[0]] == 1)):
            word += letters[0]
            product *= sizes[letters.pop(0)]
        if product != size:
            return None
        found.append(word)
    if any(sizes[letter] != 1 for letter in letters):
        return None
    if letters:  # of size 1, at the end
        found[-1] += "".join(letters)
    return tuple(found)

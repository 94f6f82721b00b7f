"""Which axes of a recorded tensor hold the images, channels, rows and columns of a feature map.

The axes of a tensor are a tuple of strings made of the letters N, C, H and W. Convolutions have ('N', 'C', 'H', 'W'),
linear layers ('N', 'H', 'W', 'C') or ('NHW', 'C'), and tokens ('N', 'HW', 'C'). An axis of one element without a
meaning is ''.
"""

from collections.abc import Sequence

__all__ = ["MAP", "Axes", "viewed"]

Axes = tuple[str, ...]
MAP: Axes = ("N", "C", "H", "W")


def viewed(axes: Axes, sizes: dict[str, int], shape: Sequence[int]) -> Axes | None:
    """The axes of a tensor after it is viewed in another shape.

    Args:
        axes: Axes before the view.
        sizes: Size of each letter.
        shape: Shape after the view.

    Returns: None if the view splits one of N, C, H and W.
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
    if letters:  # axes of size 1 at the end
        found[-1] += "".join(letters)
    return tuple(found)

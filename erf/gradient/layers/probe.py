"""A layer's layout found by trying: where does its output change when one place of the image does?

For networks through which `erf.gradient.fields` cannot follow the positions. A layout is taken only if all places say
the same, and no other layout says so, too.
"""

from collections.abc import Callable, Iterator
from itertools import permutations

import torch

from erf.gradient.layers.layout import Layout, grids

__all__ = ["layout_by_resizing", "probed_layouts"]

# fractions of height and width: no two share a row or a column, and the order of rows is not that of columns
_PLACES = ((0.2, 0.6), (0.4, 0.15), (0.6, 0.85), (0.8, 0.4))
_HALF = 0.08  # half the side of what is changed, in sides of the image
_CLEAR = 1.3  # a place's own change over the mean change there, at least
_MOST_PREFIX = 16
_GROWTH = 64  # pixels that an image grows by: a multiple of the sides that most networks take


def layout_by_resizing(run: Callable[[torch.Tensor], torch.Tensor | None], like: torch.Tensor) -> Layout | None:
    """The layout of an output of four dimensions, by those that grow with the image.

    Args:
        run: Image (1, C, H, W) -> output; None for a size that the network does not take.
        like: As for `probed_layouts`.

    Returns: None if rows do not grow with the image's height alone, and columns with its width alone.
    """
    channels, height, width = like.shape[1:]
    shapes = []
    with torch.no_grad():
        for more in ((0, 0), (1, 0), (0, 1)):
            h, w = (n + by * _GROWTH for n, by in zip((height, width), more, strict=True))
            output = run(torch.zeros(1, channels, h, w).to(like))
            if output is None or output.ndim != 4 or output.shape[0] != 1:
                return None
            shapes.append(output.shape)
    own, taller, wider = shapes
    rows, columns = ([d for d in range(4) if other[d] != own[d]] for other in (taller, wider))
    if len(rows) != 1 or len(columns) != 1 or rows == columns:
        return None
    letters = ["N", "C", "C", "C"]
    letters[rows[0]], letters[columns[0]] = "H", "W"
    return Layout("".join(letters))


def probed_layouts(
    run: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor, prefix_tokens: int | None = None
) -> list[Layout]:
    """Layouts that an output can have by where it changes; it cannot be told unless there is one alone.

    Args:
        run: Image (1, C, H, W) -> output.
        like: Images of the shape, type and device that the network takes.
        prefix_tokens: As for `Layer`.
    """
    channels, height, width = like.shape[1:]
    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        return torch.randn(1, channels, height, width, generator=generator).to(like)

    base, other = noise(), noise()
    with torch.no_grad():
        plain = run(base)
        changes = []
        for down, across in _PLACES:
            x = base.clone()
            rows, columns = (_around(place, n) for place, n in ((down, height), (across, width)))
            x[:, :, rows, columns] = 3 * other[:, :, rows, columns]
            changes.append((run(x) - plain).abs())
    if plain.shape[0] != 1:
        return []
    layouts = _possible(tuple(plain.shape), (height, width), prefix_tokens)
    return [layout for layout in layouts if _fits([layout.to_map(change) for change in changes])]


def _around(place: float, length: int) -> slice:
    half = max(1, round(_HALF * length))
    middle = int(place * length)
    return slice(max(middle - half, 0), middle + half)


def _possible(shape: tuple[int, ...], size: tuple[int, int], prefix: int | None) -> Iterator[Layout]:
    """Layouts that an output of this shape can have."""
    if len(shape) == 4:
        for order in permutations("CHW"):
            letters = "N" + "".join(order)
            h, w = (shape[letters.index(letter)] for letter in "HW")
            if min(h, w) > 1 and (h, w) in set(grids(h * w, size)):
                yield Layout(letters)
    if len(shape) == 3:
        for letters in ("NLC", "NCL"):
            count = shape[letters.index("L")]
            for before in range(_MOST_PREFIX + 1) if prefix is None else (prefix,):
                for grid in grids(count - before, size):
                    if min(grid) > 1:
                        yield Layout(letters, grid, before)


def _fits(changes: list[torch.Tensor]) -> bool:
    """Whether each place's change is the largest at that place, of all changes."""
    h, w = changes[0].shape[2:]
    energy = torch.stack([change.double().square().sum(1).mean(0) for change in changes])  # (place, h, w)
    at = []
    for down, across in _PLACES:
        rows, columns = (_around(place, n) for place, n in ((down, h), (across, w)))
        at.append(energy[:, rows, columns].mean((1, 2)) if h > 4 < w else energy[:, int(down * h), int(across * w)])
    found = torch.stack(at)  # (where, what was changed)
    if not torch.isfinite(found).all() or (found.mean(1) == 0).any():
        return False
    share = found / found.mean(1, keepdim=True)
    own = share.diagonal()
    return bool((share.argmax(1) == torch.arange(len(_PLACES))).all() and (own >= _CLEAR).all())

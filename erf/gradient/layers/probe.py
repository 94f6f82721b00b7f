"""Detect a layer's layout by experiment: change one place of the image, and see where the output changes.

This is for networks through which `erf.gradient.fields` cannot follow the positions. Changes at four large places show
which dimensions hold rows and columns. For merged positions, the order is tested as well. Strips as wide as one row or
column of positions are changed, at both ends and in the middle. A changed column strip must show in its own column of
every row, and a row strip in its own row of every column. Tokens in another order (window by window, or back and
forth), or those that begin one place too early, fail the test. A layout is accepted only if no other layout passes.
"""

from collections.abc import Callable, Iterator
from itertools import permutations

import torch

from erf.gradient.layers.layout import Layout, grids

__all__ = ["growing_dimensions", "layout_by_resizing", "probed_layouts"]

# fractions of height and width: no two places share a row or a column, and the two orders of the places differ
_PLACES = ((0.2, 0.6), (0.4, 0.15), (0.6, 0.85), (0.8, 0.4))
_HALF = 0.08  # half the side of a changed place, as a fraction of the image side
_CLEAR = 1.3  # minimum ratio of a place's own change to the mean change there
_MOST_MORE = 16  # maximum number of tokens before and after those of the map
_IN_PLACE = 0.8  # share of the rows in which a strip must show at its own place
_STRENGTH = 3.0  # strength of a change, in standard deviations of the image
_GROWTH = 64  # pixels by which an image is enlarged: a multiple of the sides that most networks take


def growing_dimensions(
    run: Callable[[torch.Tensor], torch.Tensor | None], like: torch.Tensor
) -> tuple[list[int], list[int]] | None:
    """The dimensions of a four-dimensional output that grow with the image's height, and those growing with its width.

    Args:
        run: Maps an image (1, C, H, W) to the output; returns None for a size that the network does not take.
        like: As for `probed_layouts`.

    Returns: None if the network takes no other size, or its output does not have four dimensions.
    """
    channels, height, width = like.shape[1:]
    shapes = []
    with torch.no_grad():
        for more in ((0, 0), (1, 0), (0, 1)):
            h, w = (n + by * _GROWTH for n, by in zip((height, width), more, strict=True))
            output = run(like.new_zeros(1, channels, h, w))
            if output is None or output.ndim != 4 or output.shape[0] != 1:
                return None
            shapes.append(output.shape)
    own, taller, wider = shapes
    rows, columns = ([d for d in range(4) if other[d] != own[d]] for other in (taller, wider))
    return rows, columns


def layout_by_resizing(grown: tuple[list[int], list[int]] | None) -> Layout | None:
    """The layout of an output, from the result of `growing_dimensions`.

    Returns: None unless one dimension grows with the height alone and one with the width alone.
    """
    if grown is None:
        return None
    rows, columns = grown
    if len(rows) != 1 or len(columns) != 1 or rows == columns:
        return None
    letters = ["N", "C", "C", "C"]
    letters[rows[0]], letters[columns[0]] = "H", "W"
    return Layout("".join(letters))


def probed_layouts(
    run: Callable[[torch.Tensor], torch.Tensor],
    like: torch.Tensor,
    prefix_tokens: int | None = None,
    letters: str | None = None,
) -> list[Layout]:
    """The layouts that agree with where an output changes. Only a single layout in the list is a definite answer.

    Args:
        run: Maps an image (1, C, H, W) to the output.
        like: Images of the shape, type and device that the network takes.
        prefix_tokens: As for `Layer`.
        letters: 'NLC' or 'NCL' if that is known. Patches need not be square then.
    """
    height, width = like.shape[2:]
    trial = _Trial(run, like)
    if trial.plain.shape[0] != 1:
        return []
    layouts = dict.fromkeys(_possible(tuple(trial.plain.shape), (height, width), prefix_tokens, letters))
    return [layout for layout in layouts if (_in_order if layout.grid else _fits)(trial, layout)]


class _Trial:
    """Runs a network repeatedly on one noise image, of which a part is changed.

    Attributes:
        plain: The output for the unchanged image.
    """

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor):
        generator = torch.Generator().manual_seed(0)
        self.size = (like.shape[2], like.shape[3])
        self._run = run
        self._base, self._other = (
            torch.randn(1, *like.shape[1:], generator=generator, dtype=torch.float32, device="cpu").to(like)
            for _ in range(2)
        )
        self._changes: dict[tuple[int, int, int, int], torch.Tensor] = {}
        with torch.no_grad():
            self.plain = run(self._base)

    def change(self, rows: slice, columns: slice) -> torch.Tensor:
        """How much each element of the output changes when this part of the image changes."""
        key = (rows.start, rows.stop, columns.start, columns.stop)
        if key not in self._changes:
            x = self._base.clone()
            x[:, :, rows, columns] = _STRENGTH * self._other[:, :, rows, columns]
            with torch.no_grad():
                self._changes[key] = (self._run(x) - self.plain).abs()
        return self._changes[key]


def _around(place: float, length: int) -> slice:
    half = max(1, round(_HALF * length))
    middle = int(place * length)
    return slice(max(middle - half, 0), middle + half)


def _possible(shape: tuple[int, ...], size: tuple[int, int], prefix: int | None, asked: str | None) -> Iterator[Layout]:
    """The layouts that are possible for an output of this shape."""
    if len(shape) == 4:
        for order in permutations("CHW"):
            letters = "N" + "".join(order)
            h, w = (shape[letters.index(letter)] for letter in "HW")
            if min(h, w) > 1 and (h, w) in set(grids(h * w, size)):
                yield Layout(letters)
    if len(shape) == 3:
        for letters in ("NLC", "NCL") if asked is None else (asked,):
            count = shape[letters.index("L")]
            for before in range(_MOST_MORE + 1) if prefix is None else (prefix,):
                for after in range(max(_MOST_MORE - before, 0) + 1):
                    for grid in grids(count - before - after, size, square=asked is None):
                        if min(grid) > 1 and before + after <= grid[0] * grid[1] // 2:
                            yield Layout(letters, grid, before)


def _fits(trial: _Trial, layout: Layout) -> bool:
    """Whether, at each place, the change of that place has a larger effect than the changes of the others."""
    changes = [layout.to_map(trial.change(*map(_around, place, trial.size))) for place in _PLACES]
    h, w = changes[0].shape[2:]
    energy = torch.stack([change.double().square().sum(1).mean(0) for change in changes])  # (place, h, w)
    at = []
    for down, across in _PLACES:
        rows, columns = (_around(place, n) for place, n in ((down, h), (across, w)))
        at.append(energy[:, rows, columns].mean((1, 2)) if h > 4 < w else energy[:, int(down * h), int(across * w)])
    found = torch.stack(at)  # (place of measurement, place of change)
    if not torch.isfinite(found).all() or (found.mean(1) == 0).any():
        return False
    share = found / found.mean(1, keepdim=True)
    own = share.diagonal()
    return bool((share.argmax(1) == torch.arange(len(_PLACES))).all() and (own >= _CLEAR).all())


def _in_order(trial: _Trial, layout: Layout) -> bool:
    """Whether the merged positions of a layout are in the order of the image's rows and columns."""
    everywhere = [slice(0, length) for length in trial.size]
    for side, count in enumerate(layout.grid or ()):
        shown: dict[int, float] = {}
        for strip in _strips(count):
            part = list(everywhere)
            part[side] = slice(strip * trial.size[side] // count, -(-(strip + 1) * trial.size[side] // count))
            energy = layout.to_map(trial.change(part[0], part[1])).double().square().sum(1).mean(0)
            energy = energy if side == 1 else energy.T  # transposed for rows, so that the strip must show in one column
            most = energy.argmax(1)
            near = ((most - strip).abs() <= (1 if count > 3 else 0)) & (energy.amax(1) > 0)
            if near.double().mean() < _IN_PLACE:
                return False
            shown[strip] = most[near].double().mean().item()
        steps = [shown[strip + 1] - shown[strip] for strip in shown if strip + 1 in shown]
        if any(abs(step - 1) >= 0.75 for step in steps):
            return False
    return True


def _strips(count: int) -> list[int]:
    """The rows or columns, out of `count`, that are tested: both ends, and neighbours in the middle."""
    middle = count // 2
    return sorted({strip for strip in (0, count // 4, middle - 1, middle, middle + 1, count - 1) if 0 <= strip < count})

"""The part of a map that a panel shows, the boxes of squares in it, and the place of an inset with the whole map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from erf.drawing import Drawing, check_crop, read_crop
from erf.measures.squares import LOG_THRESHOLDS, SquareArea, square_areas
from erf.measures.sums import Centre

__all__ = [
    "CORNERS",
    "INSET",
    "Box",
    "Corner",
    "Window",
    "choose_corner",
    "choose_window",
    "hidden_share",
    "inset_place",
    "settle_crop",
    "square_box",
]

Corner = tuple[str, str]
"""'top' or 'bottom', and 'left' or 'right'."""

INSET = 0.17
"""Side of the inset as a fraction of its panel's."""
CORNERS: tuple[Corner, ...] = tuple(product(("top", "bottom"), ("right", "left")))
"""Possible places of the inset, in order of preference."""
_MARGIN = 0.01  # between the inset and the panel's edge, as a fraction of the panel
_ROOM = 0.02  # between the inset and a line, as a fraction of the panel
_WINDOW_ROOM = 1.6  # side of an automatic window over that of the largest square, which then does not meet the inset
_MOST_HIDDEN = 0.02  # largest share of an inset's area that may cover pixels of the map that are not black


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of a map, where pixel i extends from i - 0.5 to i + 0.5."""

    top: float
    left: float
    bottom: float
    right: float

    def meets(self, other: "Box") -> bool:
        """Whether the two boxes share a point."""
        down = self.top <= other.bottom and other.top <= self.bottom
        return down and self.left <= other.right and other.left <= self.right

    def holds(self, other: "Box") -> bool:
        """Whether the other box lies within this one without touching its edges."""
        down = self.top < other.top and other.bottom < self.bottom
        return down and self.left < other.left and other.right < self.right

    def has_edge_in(self, other: "Box") -> bool:
        """Whether a part of this box's edges lies in the other box."""
        return self.meets(other) and not self.holds(other)


@dataclass(frozen=True)
class Window:
    """The part of a map that is shown, in whole pixels of the map."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(cls, centre: Centre, side: int, shape: tuple[int, ...]) -> "Window":
        """A square window around a pixel, cut to the size of the map and moved to lie within it."""
        height, width = min(side, shape[0]), min(side, shape[1])
        top = int(np.clip(centre[0] - height // 2, 0, shape[0] - height))
        left = int(np.clip(centre[1] - width // 2, 0, shape[1] - width))
        return cls(top, left, height, width)

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        return (self.height, self.width) == tuple(shape)

    @property
    def box(self) -> Box:
        """The outer edges of the window."""
        return Box(self.top - 0.5, self.left - 0.5, self.top + self.height - 0.5, self.left + self.width - 0.5)

    def corner(self, corner: Corner, *, room: float = 0.0) -> Box:
        """The place of the inset in a corner, with its margin and with `room`, a fraction of the window's sides."""
        high, wide = (n * (INSET + _MARGIN) for n in (self.height, self.width))
        box, down, across = self.box, room * self.height, room * self.width
        if corner[0] == "top":
            top, bottom = box.top, box.top + high + down
        else:
            top, bottom = box.bottom - high - down, box.bottom
        if corner[1] == "left":
            return Box(top, box.left, bottom, box.left + wide + across)
        return Box(top, box.right - wide - across, bottom, box.right)


def choose_window(maps: Sequence[tuple[np.ndarray, Centre]], drawing: Drawing) -> list[Window]:
    """Choose the window of each map, with the same side in pixels for all, so that fields can be compared by eye.

    Args:
        maps: Contribution maps (H, W), each with the pixel at the centre of its squares.
        drawing: Options, of which `crop` and `squares` are used. 'auto' chooses a window if every map has a square that
            holds 99%, with a side below half of the shortest side of all maps.

    Raises: ValueError for a window that is larger than the longer side of a map.
    """
    check_crop(drawing.crop, [contribution.shape for contribution, _ in maps])
    side = read_crop(drawing.crop)
    if side is None:
        shares = LOG_THRESHOLDS[-1:]
        largest = [square_areas(values, shares, of=drawing.squares, centre=centre)[0] for values, centre in maps]
        sides = [area.side_px for area in largest if area.side_px is not None]
        shortest = min(min(contribution.shape) for contribution, _ in maps)
        small = len(sides) == len(maps) and max(sides) < shortest / 2
        side = -(-round(_WINDOW_ROOM * max(sides)) // 16) * 16 if small else 0
        side = side if side < shortest else 0
    return [Window.around(centre, side or max(contribution.shape), contribution.shape) for contribution, centre in maps]


def settle_crop(maps: Sequence[tuple[np.ndarray, Centre]], drawing: Drawing) -> Drawing:
    """Replace an automatic `crop` by the window that all maps have in common, for drawing them one by one.

    Args:
        maps: As for `choose_window`; at least one.
        drawing: Options of the figures.
    """
    if read_crop(drawing.crop) is not None:
        return drawing
    windows = choose_window(maps, drawing)
    parts = [
        max(w.height, w.width) for w, (values, _) in zip(windows, maps, strict=True) if not w.is_whole(values.shape)
    ]
    return replace(drawing, crop=max(parts, default="none"))


def square_box(area: SquareArea, centre: Centre, shape: tuple[int, ...]) -> Box | None:
    """The place of a square, cut off where it leaves the map; None if there is no square."""
    if area.side_px is None:
        return None
    half, (down, across) = area.side_px / 2, centre
    return Box(
        top=max(down - half, -0.5),
        left=max(across - half, -0.5),
        bottom=min(down + half, shape[0] - 0.5),
        right=min(across + half, shape[1] - 0.5),
    )


def inset_place(corner: Corner) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the inset, as fractions of its panel."""
    up = 1 - INSET - _MARGIN if corner[0] == "top" else _MARGIN
    across = 1 - INSET - _MARGIN if corner[1] == "right" else _MARGIN
    return across, up, INSET, INSET


def hidden_share(levels: np.ndarray, window: Window, corner: Corner) -> float:
    """Share of the pixels under an inset that are not black. `levels` (H, W) are the map's colours in 0..1."""
    box = window.corner(corner)
    top, left, bottom, right = (round(edge + 0.5) for edge in (box.top, box.left, box.bottom, box.right))
    return float((levels[top:bottom, left:right] > 0.1).mean())


def choose_corner(panels: Sequence[tuple[np.ndarray, Window, Centre, Sequence[Box]]]) -> Corner | None:
    """The corner in which the insets of all panels hide least; None if there is no suitable corner.

    A corner is unsuitable if an inset there would hide a line, the centre pixel or too much of a map.

    Args:
        panels: For each panel, the map's colours (H, W) in 0..1, the window, the centre pixel, and the boxes of the
            lines that are drawn.
    """
    best: tuple[float, Corner] | None = None
    for corner in CORNERS:
        hidden = 0.0
        for levels, window, (down, across), lines in panels:
            place = window.corner(corner, room=_ROOM)
            centre = Box(down - 0.5, across - 0.5, down + 0.5, across + 0.5)
            if any(line.has_edge_in(place) for line in lines) or centre.meets(place):
                hidden = float("inf")
            hidden = max(hidden, hidden_share(levels, window, corner))
        if hidden <= _MOST_HIDDEN and (best is None or hidden < best[0]):
            best = hidden, corner
    return best[1] if best else None

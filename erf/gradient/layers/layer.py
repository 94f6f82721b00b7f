"""How a layer is specified, and errors for layers that cannot be used."""

import re
from dataclasses import dataclass

__all__ = ["ForwardError", "Layer", "LayerError", "LayoutError", "NotDifferentiable", "TakenLayer", "as_layer"]


class LayerError(ValueError):
    """The network has no such layer, or its output is no feature map."""


class LayoutError(LayerError):
    """It cannot be told how a layer's output is laid out.

    Attributes:
        reason: Why its units' fields have no size, as `erf.gradient.fields.field.Field.reason`.
    """

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


class NotDifferentiable(ValueError):
    """As far as autograd can see, a layer does not depend on the images."""


class ForwardError(RuntimeError):
    """The network's own forward pass fails; the message is its own.

    Attributes:
        hint: What to try.
    """

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Layer:
    """A feature map of a network.

    Attributes:
        name: 'last', a position among the feature maps that a network of timm names, or a submodule's name. What
            follows a colon is an entry of its output, by key or index ('backbone:out'; ':out' of the network's own
            output), and ':in' is its input.
        layout: Letters of the output's dimensions, such as 'NCHW', 'NHWC' or 'NLC': images, channels, rows, columns,
            or positions row by row. What follows a colon are the rows and columns that the positions form
            ('NLC:14x14'). None to find it out.
        call: Which of the calls of a submodule that runs several times, from 0, negative ones from the end.
        prefix_tokens: How many tokens come before those of the map. None to find it out.
    """

    name: str = "last"
    layout: str | None = None
    call: int | None = None
    prefix_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and not _is_layout(self.layout):
            raise LayerError(
                f"layout {self.layout!r}: name the output's dimensions, such as NCHW, NHWC, NLC or NCL (N images, "
                "C channels, H rows, W columns, or L positions row by row, of which NLC:14x14 says how many there are)"
            )
        if self.prefix_tokens is not None and self.prefix_tokens < 0:
            raise LayerError(f"prefix tokens {self.prefix_tokens}: there are 0 or more")

    @property
    def position(self) -> int | None:
        """Position that the name stands for; None if it is a module's name."""
        try:
            return int(self.name)
        except ValueError:
            return None

    @property
    def letters(self) -> str | None:
        """Those of the layout; None if it was not said."""
        return self.layout and self.layout.partition(":")[0]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns that merged positions form; None if that was not said."""
        h, _, w = (self.layout or "").partition(":")[2].partition("x")
        return (int(h), int(w)) if w else None

    @property
    def module(self) -> str:
        """The submodule's name, '' for the network itself."""
        return self.name.partition(":")[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """Which entry of the output is meant, from the outermost."""
        return tuple(self.name.split(":")[1:])

    def __str__(self) -> str:
        return self.name if self.call is None else f"{self.name} (call {self.call})"


@dataclass(frozen=True)
class TakenLayer:
    """What was taken for a layer that was asked.

    Attributes:
        module: Name of the submodule that gives the map, with the entry of its output where it has several; 'output' or
            'forward_features' for those of the network itself.
        layout: Letters of its dimensions, as for `Layer.layout`; None where timm brings it into the form of a map.
        call: Which call of the submodule; None for its only one.
        prefix_tokens: How many tokens were left out before those of the map.
        note: What else has to be known of the map; '' if nothing.
    """

    module: str
    layout: str | None = "NCHW"
    call: int | None = None
    prefix_tokens: int = 0
    note: str = ""

    def __str__(self) -> str:
        call = "" if self.call is None else f" (call {self.call})"
        layout = "" if self.layout in (None, "NCHW") else f", laid out as {self.layout}"
        return f"{self.module}{call}{layout}"


def _is_layout(text: str) -> bool:
    dimensions, colon, grid = text.partition(":")
    letters = set(dimensions)
    known = len(letters) == len(dimensions) and "N" in letters and letters - {"N", "C"} in ({"H", "W"}, {"L"})
    return known and (not colon or ("L" in letters and re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", grid) is not None))


def as_layer(layer: str | int | Layer) -> Layer:
    """A layer from its name or position.

    Raises: LayerError for anything else.
    """
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, bool) or not isinstance(layer, (str, int)):
        raise LayerError(
            f"layer {layer!r}: name 'last', a position among the network's feature maps, or one of its submodules"
        )
    return Layer(str(layer))

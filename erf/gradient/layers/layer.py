"""How a layer is specified, and the errors for layers that cannot be used."""

import re
from dataclasses import dataclass

__all__ = ["ForwardError", "Layer", "LayerError", "LayoutError", "NotDifferentiable", "TakenLayer", "as_layer"]


class LayerError(ValueError):
    """The network has no such layer, or its output is not a feature map."""


class LayoutError(LayerError):
    """The layout of a layer's output cannot be determined.

    Attributes:
        reason: Why the fields of its units have no size, as in `erf.gradient.fields.field.Field.reason`.
    """

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


class NotDifferentiable(ValueError):
    """According to autograd, a layer does not depend on the images."""


class ForwardError(RuntimeError):
    """The network's own forward pass fails. The message is that of the network.

    Attributes:
        hint: A suggestion for the user.
    """

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Layer:
    """Specification of a feature map of a network.

    Attributes:
        name: 'last', a position among the feature maps that a timm network names, or the name of a submodule. The text
            after a colon selects an entry of the output by key or index ('backbone:out'; ':out' for the network's own
            output); ':in' selects the input.
        layout: Letters of the output's dimensions, such as 'NCHW', 'NHWC' or 'NLC', where N is images, C channels, H
            rows, W columns and L positions in row order. The text after a colon gives the rows and columns that the
            positions form ('NLC:14x14'). None to detect the layout.
        call: Which call of a submodule that runs several times, counted from 0; negative values count from the end.
        prefix_tokens: Number of tokens before those of the map. None to detect it.
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
        """The position that the name stands for; None if it is the name of a module."""
        try:
            return int(self.name)
        except ValueError:
            return None

    @property
    def letters(self) -> str | None:
        """Letters of the layout; None if no layout was given."""
        return self.layout and self.layout.partition(":")[0]

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns that the merged positions form; None if they were not given."""
        h, _, w = (self.layout or "").partition(":")[2].partition("x")
        return (int(h), int(w)) if w else None

    @property
    def module(self) -> str:
        """Name of the submodule, '' for the network itself."""
        return self.name.partition(":")[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the selected entry of the output, from the outermost."""
        return tuple(self.name.split(":")[1:])

    def __str__(self) -> str:
        return self.name if self.call is None else f"{self.name} (call {self.call})"


@dataclass(frozen=True)
class TakenLayer:
    """The map that was actually taken for a requested layer.

    Attributes:
        module: Name of the submodule that gives the map, with the entry of its output if it has several; 'output' or
            'forward_features' for the network itself.
        layout: Letters of its dimensions, as for `Layer.layout`; None if timm brings the output into the form of a map.
        call: Which call of the submodule; None if there is only one.
        prefix_tokens: Number of tokens that were dropped before those of the map.
        note: Anything else that readers of the result should know about the map; '' if nothing.
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
    """A `Layer` from its name or position.

    Raises: LayerError for anything else.
    """
    if isinstance(layer, Layer):
        return layer
    if isinstance(layer, bool) or not isinstance(layer, (str, int)):
        raise LayerError(
            f"layer {layer!r}: name 'last', a position among the network's feature maps, or one of its submodules"
        )
    return Layer(str(layer))

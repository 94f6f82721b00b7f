"""What runs in place of a network whose layer is known. It is chosen separately for each image size."""

from typing import Any, Literal

from torch import Tensor, nn

from erf.gradient.graphs import RecordedNetwork
from erf.gradient.layers.layer import as_layer
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.plain import PlainNetwork
from erf.gradient.positions import Position

__all__ = ["FastForm", "PlainForm"]


class FastForm:
    """A network up to one feature map. It runs in its lean form where that is proven, and unchanged elsewhere.

    Attributes:
        form: 'lean', or 'plain' as soon as the lean form was not used for some images; None before the first use.
        reason: Why this form was used, in a few words.
    """

    form: Literal["lean", "plain"] | None
    reason: str

    def choose(self, images: Tensor, position: Position) -> PlainNetwork | RecordedNetwork | LeanNetwork:
        """The form to run for these images (N, C, H, W) and this unit. All forms give the same map."""
        raise NotImplementedError


class PlainForm(FastForm):
    """A network that always runs unchanged.

    Args:
        model: In eval mode.
        layer: The feature map, as for `erf.gradient.contribution.feature_map`.
        reason: Why it runs unchanged, in a few words.
    """

    def __init__(self, model: nn.Module, layer: Any, reason: str):
        self._model, self._layer, self.form, self.reason = model, as_layer(layer), "plain", reason
        self._network: PlainNetwork | None = None

    def choose(self, images: Tensor, position: Position) -> PlainNetwork:
        self._network = self._network or PlainNetwork(self._model, self._layer)
        return self._network

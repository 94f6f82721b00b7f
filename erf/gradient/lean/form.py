"""What runs in place of a network whose layer is known. It is chosen separately for each image size."""

from typing import Literal

from torch import Tensor, nn

from erf.gradient.lean.network import LeanNetwork
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

    def choose(self, images: Tensor, position: Position) -> nn.Module | LeanNetwork:
        """The network to run for these images (N, C, H, W) and this unit. Both forms give the same map."""
        raise NotImplementedError


class PlainForm(FastForm):
    """A network that always runs unchanged."""

    def __init__(self, model: nn.Module, reason: str):
        self._model, self.form, self.reason = model, "plain", reason

    def choose(self, images: Tensor, position: Position) -> nn.Module:
        return self._model

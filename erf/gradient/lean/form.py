"""What runs in place of a network whose layer is known: chosen separately for each size of images."""

from typing import Literal

from torch import Tensor, nn

from erf.gradient.lean.network import LeanNetwork
from erf.gradient.positions import Position

__all__ = ["FastForm", "PlainForm"]


class FastForm:
    """A network up to one feature map, which runs in its lean form where that is proven, and as it is elsewhere.

    Attributes:
        form: 'lean', or 'plain' as soon as any images did not get the lean form; None before the first use.
        reason: Why, in a few words.
    """

    form: Literal["lean", "plain"] | None
    reason: str

    def choose(self, images: Tensor, position: Position) -> nn.Module | LeanNetwork:
        """What is to run for these images (N, C, H, W) and this unit; both give the same map."""
        raise NotImplementedError


class PlainForm(FastForm):
    """A network that runs as it is in any case."""

    def __init__(self, model: nn.Module, reason: str):
        self._model, self.form, self.reason = model, "plain", reason

    def choose(self, images: Tensor, position: Position) -> nn.Module:
        return self._model

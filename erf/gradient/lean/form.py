"""What runs in place of a network whose layer is known: chosen anew for each size of images."""

from torch import Tensor, nn

from erf.gradient.lean.network import LeanNetwork
from erf.gradient.positions import Position

__all__ = ["FastForm"]


class FastForm:
    """A network up to one feature map, which runs in its lean form where that is proven, and as it is elsewhere."""

    def choose(self, images: Tensor, position: Position) -> nn.Module | LeanNetwork:
        """What is to run for these images (N, C, H, W) and this unit; both give the same map."""
        raise NotImplementedError

"""The moving average of a network's weights, which is evaluated and saved."""

import torch
from timm.utils import ModelEmaV3
from torch import nn

__all__ = ["MovingAverage"]


class MovingAverage(ModelEmaV3):
    """timm's moving average of a network, which looks up the network's tensors once instead of in every step.

    The lookup took longer than a training step of a small network on a GPU. The values are the same as timm's.

    Args:
        model: The network; its tensors must not be replaced afterwards.
        decay: Largest decay of the average, which is reached after a warm-up.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model, decay=decay, use_warmup=True)
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._averaged, self._copied = (
            [[pair[side] for pair in pairs if pair[0].is_floating_point() is floating] for side in (0, 1)]
            for floating in (True, False)
        )

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Update every averaged tensor towards that of the network; copy integer tensors such as counters."""
        del model  # its tensors are held already
        torch._foreach_lerp_(self._averaged[0], self._averaged[1], weight=1.0 - decay)
        if self._copied[0]:
            torch._foreach_copy_(self._copied[0], self._copied[1])

"""Run one batch of images through any network, and check that its output has one row of class scores per image."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from replknet.zoo import Preprocessing
from runkit import RunStopped, UserError
from runkit.compute.memory import is_out_of_memory
from runkit.plugins import OWN_CODE_ERRORS, words_of

__all__ = ["LogitsOf", "class_probabilities", "dtype_of", "logits_of"]

_logger = logging.getLogger(__name__)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the data type of the network's floating-point parameters; float32 if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


class LogitsOf(nn.Module):
    """A network's logits. If its first outputs are probabilities, a warning is given, and logarithms are taken of all.

    The softmax of these logarithms is what the network answers.

    Args:
        model: Network in eval mode.
        name: Name of the network, for the warning.
    """

    def __init__(self, model: nn.Module, *, name: str):
        super().__init__()
        self.model, self.name = model, name
        self.takes_log: bool | None = None
        self.eval()

    def forward(self, x: torch.Tensor) -> object:
        outputs = self.model(x)
        if self.takes_log is None:
            self.takes_log = _are_probabilities(outputs)
            if self.takes_log:
                _logger.warning(
                    "%s returns probabilities, not logits; they are taken as they are, without a softmax", self.name
                )
        return outputs.float().log() if self.takes_log else outputs


def _are_probabilities(outputs: object) -> bool:
    """Whether a network's outputs for a batch are probabilities: none is negative, and each row sums to 1."""
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        return False
    tolerance = 1e-3 if outputs.dtype == torch.float32 else 1e-2  # of rounding
    sums = outputs.float().sum(dim=1)
    return bool((outputs >= 0).all() and ((sums - 1).abs() < tolerance).all())


def class_probabilities(
    model: nn.Module,
    pixels: Sequence[np.ndarray],
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    name: str,
    outputs: int | None = None,
    what: str = "",
) -> np.ndarray:
    """Compute the class probabilities of one batch: softmax in float32 over the network's outputs.

    Args:
        model: Network in eval mode, on `device`.
        pixels: B images, uint8 (H, W, C), in the network's input size.
        preprocessing: Mean and standard deviation.
        name, outputs, what: As for `logits_of`.
    Returns: float32 (B, C), on the CPU.
    Raises: UserError as `logits_of`.
    """
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float32, device=device).view(1, -1, 1, 1)
    # (B, H, W, C) in memory is channels-last: permute only changes the view
    x = torch.from_numpy(np.stack(pixels)).to(device, non_blocking=True).permute(0, 3, 1, 2)
    x = x.to(torch.float32).div_(255).sub_(mean).div_(std)
    logits = logits_of(model, x.to(dtype_of(model)), name=name, outputs=outputs, what=what)
    return torch.softmax(logits.float(), dim=1).cpu().numpy()


def logits_of(
    model: nn.Module, x: torch.Tensor, *, name: str, outputs: int | None = None, what: str = ""
) -> torch.Tensor:
    """Compute the outputs of a network for normalised images.

    Args:
        x: Images (B, C, H, W).
        name: Name of the network, for messages.
        outputs: Required number of outputs; None for any number, at least 2.
        what: Description of these outputs, for messages.
    Returns: One row of outputs per image, (B, outputs).
    Raises: UserError if the output is not such a tensor, or if the network's own code fails; its exception is then the
        cause. Out-of-memory errors are passed on unchanged.
    """
    try:
        logits = model(x)
    except (UserError, RunStopped):
        raise
    except OWN_CODE_ERRORS as error:
        if is_out_of_memory(error):
            raise
        height, width = x.shape[2:]
        raise UserError(
            f"{name} cannot take images of {height} × {width} pixels: {words_of(error)}; --verbose shows where"
        ) from error
    if not isinstance(logits, torch.Tensor):
        given = f"a {type(logits).__name__}"
    elif logits.ndim == 2 and len(logits) == len(x) and logits.shape[1] == (outputs or max(2, logits.shape[1])):
        return logits
    else:
        given = f"shape {tuple(logits.shape)}"
    wanted = f"({len(x)}, {outputs or 'number of classes'})" + (what and f", {what}")
    raise UserError(
        f"{name} answers with {given} to {len(x)} image{'s' * (len(x) != 1)}; it must be {wanted}: a tensor with a row "
        "for each image"
    )

"""Run one batch of images through any network, and check that its output has one row of class scores per image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from replknet.zoo import Preprocessing
from runkit import RunStopped, UserError
from runkit.compute.memory import is_out_of_memory
from runkit.plugins import OWN_CODE_ERRORS, words_of

__all__ = ["class_probabilities", "dtype_of", "logits_of"]


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the data type of the network's floating-point parameters; float32 if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


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

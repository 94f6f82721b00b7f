"""One batch of images through any network, and errors for outputs that are not a table of classes."""

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
    """Type of the network's numbers; float32 if it has no parameters."""
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
    """Class probabilities of one batch: softmax in float32 over the network's outputs.

    Args:
        model: In eval mode, on `device`.
        pixels: B images, uint8 (H, W, 3), in the size that the network wants.
        preprocessing: Mean and standard deviation.
        name, outputs, what: As for `logits_of`.
    Returns: float32 (B, C), on the CPU.
    Raises: UserError as `logits_of`.
    """
    mean = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)
    # (B, H, W, 3) in memory is channels-last: only the view changes
    x = torch.from_numpy(np.stack(pixels)).to(device, non_blocking=True).permute(0, 3, 1, 2)
    x = x.to(torch.float32).div_(255).sub_(mean).div_(std)
    logits = logits_of(model, x.to(dtype_of(model)), name=name, outputs=outputs, what=what)
    return torch.softmax(logits.float(), dim=1).cpu().numpy()


def logits_of(
    model: nn.Module, x: torch.Tensor, *, name: str, outputs: int | None = None, what: str = ""
) -> torch.Tensor:
    """What a network answers to normalised images.

    Args:
        x: (B, 3, H, W).
        name: Name of the network, for messages.
        outputs: How many outputs there must be; None for any number, at least 2.
        what: What these outputs are, for messages.
    Returns: (B, C).
    Raises: UserError if the answer is no tensor with one row per image, or the network's own code fails; what its
        code raised is the cause. Lack of memory is raised as it is.
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

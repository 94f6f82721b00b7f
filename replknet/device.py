"""Where a network runs: one answer to `--device` for both tools."""

from contextlib import AbstractContextManager

import torch

from runkit import UserError

__all__ = ["choose_device", "device_label", "exact_float32"]


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes a CUDA device if there is one.

    Raises: UserError if the name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--device {name} cannot be used: {reason}") from error
    return device


def device_label(device: torch.device) -> str:
    """For results: the device, with the card's name where it is one."""
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def exact_float32() -> AbstractContextManager[None]:
    """While it lasts, float32 means float32: PyTorch lets cuDNN round convolutions to TF32 by default."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)

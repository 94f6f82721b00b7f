"""The device on which a network runs, chosen by `--device` in both tools."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from runkit import UserError
from runkit.options import meant_device

__all__ = ["choose_device", "device_label", "exact_float32", "tensor_float32"]


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes a CUDA device if there is one.

    With torchrun, "auto" and "cuda" give each rank its own CUDA device.

    Raises: UserError if the name is unknown, the device does not exist, or there are more ranks than CUDA devices.
    """
    if meant := meant_device(name):
        raise UserError(f"there is no device {name!r}; did you mean {meant}?")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if name.startswith("cuda") and ranks > 1:
        if name != "cuda" or ranks > torch.cuda.device_count():
            raise UserError(
                f"--device {name} for {ranks} ranks, and {torch.cuda.device_count()} CUDA devices: each rank needs one "
                "of its own; lower --nproc-per-node, or take --device cpu"
            )
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts if it was built without CUDA
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "Expected one of" in reason:  # the message goes on with all devices that PyTorch knows
            reason = "PyTorch knows no such device; take cpu, cuda or cuda:1"
        raise UserError(f"--device {name} cannot be used: {reason}") from error
    return device


def device_label(device: torch.device) -> str:
    """Label of a device in results, which includes the name of a GPU."""
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def exact_float32() -> AbstractContextManager[None]:
    """Context in which float32 is exact: by default, PyTorch lets cuDNN round convolutions to TF32.

    cuDNN also takes only algorithms that give the same bits each time.
    """
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


@contextmanager
def tensor_float32() -> Iterator[None]:
    """Context in which CUDA multiplies float32 numbers on tensor cores, rounded to 10 bits of mantissa (TF32)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)

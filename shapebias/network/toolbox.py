"""Networks of the zoo with the interface of the model-vs-human toolbox; see `shapebias.toolbox`."""

import importlib
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from replknet import load_model, optimize, resolve_weights
from replknet.zoo import LoadedModel, Preprocessing
from runkit import UserError
from runkit.compute.device import choose_device
from shapebias.network.heads import refuse_missing_head
from shapebias.network.inference import TOOLBOX_PREPROCESSING, check_head

__all__ = ["ToolboxNetwork", "register", "renormalise", "toolbox_name"]

_FRAMEWORK = "pytorch"
_INSTALL = 'pip install "modelvshuman @ git+https://github.com/bethgelab/model-vs-human"'


class ToolboxNetwork:
    """A network of the zoo behind the interface of the toolbox's models (`modelvshuman/models/wrappers/base.py`).

    Args:
        loaded: Network, preprocessing and record from `replknet.load_model`; the network is optimised for inference in
            place.
        name: Name of the network, for messages.
        preprocessing: "model" undoes the toolbox's normalisation and applies the network's own, as in `shapebias.run`;
            "toolbox" leaves the images as the toolbox normalised them.
        device: Where to run.
    """

    def __init__(
        self, loaded: LoadedModel, name: str, *, preprocessing: str = "model", device: torch.device | str = "cpu"
    ):
        check_head(loaded.model, name)
        if loaded.preprocessing.channels != TOOLBOX_PREPROCESSING.channels:
            raise UserError(
                f"{name} takes images of {loaded.preprocessing.channels} channels; the toolbox gives colours"
            )
        refuse_missing_head(
            loaded, loaded.preprocessing if preprocessing == "model" else TOOLBOX_PREPROCESSING, name=name
        )
        self.name = name
        self.record = loaded.record
        self.device = torch.device(device)
        self.model = optimize(loaded.model).to(self.device)
        self.preprocessing = loaded.preprocessing if preprocessing == "model" else TOOLBOX_PREPROCESSING

    def forward_batch(self, images: torch.Tensor) -> np.ndarray:
        """Compute the outputs before softmax, float32 (N, 1000), for images normalised by the toolbox."""
        x = images.to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode():
            return self.model(renormalise(x, self.preprocessing)).float().cpu().numpy()

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        """Compute probabilities (N, 1000) in float32."""
        return torch.softmax(torch.as_tensor(logits, dtype=torch.float32), dim=1).numpy()

    def to_numpy(self, x: torch.Tensor) -> np.ndarray:
        """Convert a tensor on any device to an array."""
        return x.detach().cpu().numpy()


def renormalise(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Convert images from the toolbox's mean, standard deviation and size to those of `preprocessing`.

    If the size differs, the whole image is resized by antialiased bicubic interpolation, and values are clamped to
    [0, 1]. The images are not modified; they are returned as they are if there is nothing to convert.
    """
    if preprocessing == TOOLBOX_PREPROCESSING:
        return images

    def column(values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)

    x = images * column(TOOLBOX_PREPROCESSING.std) + column(TOOLBOX_PREPROCESSING.mean)
    if x.shape[-2:] != preprocessing.input_size:
        x = F.interpolate(x, preprocessing.input_size, mode="bicubic", antialias=True).clamp(0, 1)
    return (x - column(preprocessing.mean)) / column(preprocessing.std)


def toolbox_name(name: str) -> str:
    """Return the name of a network in the toolbox: `replknet31b.in1k` -> `replknet31b_in1k`.

    Raises: UserError if the result is not a Python identifier.
    """
    identifier = re.sub(r"\W", "_", name)
    if not identifier.isidentifier():
        raise UserError(f"{name} cannot be registered in the toolbox: {identifier!r} is no Python identifier")
    return identifier


def register(
    names: Iterable[str],
    *,
    weights: str = "pretrained",
    seed: int = 0,
    preprocessing: str = "model",
    device: str = "auto",
) -> dict[str, str]:
    """Register networks in the toolbox. They are loaded when the toolbox uses them.

    Args:
        names: timm names, preferably with their tag.
        weights: As for `replknet.load_model`, but without "auto", so that no network is untrained by accident.
        seed: Seed of random weights.
        preprocessing: As for `ToolboxNetwork`.
        device: "auto" uses a CUDA device if there is one, as the toolbox does for its images.
    Returns: Name in the toolbox -> name in the zoo, in the given order.
    Raises: UserError if the toolbox is not installed or a name is already in use in it; WeightsUnavailable (a
        UserError) if trained weights are not available.
    """
    if weights == "auto":
        raise UserError("weights must be 'pretrained', 'random' or the path of a checkpoint, not 'auto'")
    zoo, registry = _import_toolbox()
    registered: dict[str, str] = {}
    for name in names:
        identifier = toolbox_name(name)
        _check_free(identifier, name, zoo, registry)
        resolved = resolve_weights(name, weights, seed=seed)

        def build(model_name: str, *_: Any, _resolved=resolved) -> ToolboxNetwork:
            size = TOOLBOX_PREPROCESSING.input_size if preprocessing == "toolbox" else None
            loaded = load_model(_resolved, input_size=size)
            return ToolboxNetwork(loaded, model_name, preprocessing=preprocessing, device=choose_device(device))

        build.__name__ = build.__qualname__ = identifier
        build.zoo_name = name  # type: ignore[attr-defined]  # marks it as ours
        if identifier not in registry.list_models(_FRAMEWORK):
            registry.register_model(_FRAMEWORK)(build)
        setattr(zoo, identifier, build)
        registered[identifier] = name
    return registered


def _check_free(identifier: str, name: str, zoo: ModuleType, registry: ModuleType) -> None:
    """Check that the toolbox would not load another network under this name.

    Raises: UserError if it would.
    """
    from torchvision import models as torchvision_models

    # the toolbox searches torchvision's names first and would silently load torchvision's network
    if identifier in vars(torchvision_models):
        raise UserError(f"the toolbox takes {identifier!r} for torchvision's; name {name} with its tag")
    ours = getattr(getattr(zoo, identifier, None), "zoo_name", None)
    if ours is None and (identifier in registry.list_models(_FRAMEWORK) or hasattr(zoo, identifier)):
        raise UserError(f"the toolbox has a model {identifier!r} of its own; name {name} with its tag")
    if ours not in (None, name):
        raise UserError(f"{name} and {ours} would both be {identifier!r} in the toolbox; register one of them")


def _import_toolbox() -> tuple[ModuleType, ModuleType]:
    """Import the toolbox's module of PyTorch models, and its registry.

    Raises: UserError if the toolbox is not installed.
    """
    try:
        zoo = importlib.import_module("modelvshuman.models.pytorch.model_zoo")
        registry = importlib.import_module("modelvshuman.models.registry")
    except ImportError as error:
        raise UserError(
            f"the model-vs-human toolbox cannot be imported ({error}); "
            f"{_INSTALL}, and set MODELVSHUMANDIR as its README says"
        ) from error
    return zoo, registry

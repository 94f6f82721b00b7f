"""timm's description of networks for the ten classes of Imagenette, and of the weights that this project ships.

These weights were trained with `replknet.train`; the files are in `replknet/checkpoints`, each with its model card.
"""

from pathlib import Path
from typing import Any

__all__ = ["CHECKPOINTS", "TAG", "imagenette_cfg", "shipped_cfg"]

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
TAG = "imagenette"


def imagenette_cfg(**kwargs: Any) -> dict[str, Any]:
    """timm's configuration of a network for Imagenette; `kwargs` are the entries that differ between networks."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD  # not needed for `TAG`

    return {
        "num_classes": 10,
        "input_size": (3, 96, 96),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        **kwargs,
    }


def shipped_cfg(architecture: str, **kwargs: Any) -> dict[str, Any]:
    """The same for weights `architecture.imagenette`, whose file is in this package and is evaluated at 128 pixels."""
    file = CHECKPOINTS / f"{architecture}.{TAG}.safetensors"
    return imagenette_cfg(file=str(file), input_size=(3, 128, 128), pool_size=(4, 4), license="mit", **kwargs)

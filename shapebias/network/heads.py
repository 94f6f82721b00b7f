"""The classes of a network's outputs: recognised by their number, or given by the user."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from replknet.zoo import Preprocessing
from runkit import UserError
from shapebias.network.forward import dtype_of, logits_of
from shapebias.stimuli.categories import IMAGENET_1K, ClassMap
from shapebias.stimuli.classes import map_imagenet_1k_subset, map_synsets, map_words, read_classes

__all__ = ["ClassChoice", "as_choice", "choose_classes", "count_outputs", "outputs_of"]

ClassChoice = str | ClassMap
"""A class list that the user gave, "auto", or "imagenet-1k": of larger heads of ImageNet only its 1000 classes."""


def as_choice(classes: "ClassMap | str | Path | Sequence[str] | None") -> ClassChoice:
    """The choice that an argument stands for: "auto" (also for None), "imagenet-1k", a class file, or a word for each
    output, as a class file has them.

    Raises: UserError as `read_classes`.
    """
    if classes is None:
        return "auto"
    if isinstance(classes, ClassMap) or classes in ("auto", "imagenet-1k"):
        return classes  # type: ignore[return-value]  # one of these words
    if isinstance(classes, str | Path):
        return read_classes(Path(classes))
    return map_words(classes, name="classes as given")


def choose_classes(outputs: int, choice: ClassChoice, *, name: str) -> ClassMap:
    """Which outputs of a head belong to which category.

    Heads of 1000 outputs have the toolbox's classes; larger ones of ImageNet, which timm knows by their number, answer
    a category by what WordNet counts to it.

    Args:
        outputs: How many the head has.
        name: Name of the network, for messages.
    Raises: UserError if that is not known, or the class list is of another length.
    """
    if isinstance(choice, ClassMap):
        if outputs != choice.num_classes:
            raise UserError(
                f"{name} has {outputs} outputs, but there are {choice.num_classes} {choice.name}: the file must have "
                "one line per output"
            )
        return choice
    if outputs == IMAGENET_1K.num_classes:
        return IMAGENET_1K
    if outputs < 2:
        raise UserError(f"{name} has no classifier (its outputs are not classes): choose weights that have one")
    found = _of_imagenet(outputs, choice == "imagenet-1k")
    if found is None:
        raise UserError(
            f"{name} has {outputs} outputs, and no class list of ImageNet has {outputs} classes: name the class of "
            "each output in a text file (--classes FILE), or choose weights trained on ImageNet"
        )
    return found


@lru_cache(maxsize=8)
def _of_imagenet(outputs: int, only_1k: bool) -> ClassMap | None:
    """The class map of a head of ImageNet; None if there is none with this many classes."""
    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return None
    title, synsets = subset.replace("imagenet", "ImageNet"), ImageNetInfo(subset).label_names()
    if only_1k:
        return map_imagenet_1k_subset(synsets, name=f"classes of ImageNet-1k among those of {title}")
    return map_synsets(synsets, name=f"classes of {title} by WordNet")


def outputs_of(model: nn.Module, preprocessing: Preprocessing, device: torch.device, *, name: str) -> int:
    """Number of a network's outputs: what it says, else found by asking it a black image.

    Raises: UserError as `shapebias.network.forward.logits_of`.
    """
    said = getattr(model, "num_classes", None)
    if isinstance(said, int):
        return said
    return count_outputs(model, preprocessing, device, name=name)


def count_outputs(model: nn.Module, preprocessing: Preprocessing, device: torch.device, *, name: str) -> int:
    """Number of a network's outputs, found by asking it a black image.

    Raises: UserError as `shapebias.network.forward.logits_of`.
    """
    shape = (1, preprocessing.channels, *preprocessing.input_size)
    with torch.inference_mode():
        return logits_of(model, torch.zeros(shape, device=device, dtype=dtype_of(model)), name=name).shape[1]

"""The classes of a network's outputs: recognised by the number of outputs, or given by the user."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from replknet.zoo import LoadedModel, Preprocessing
from runkit import UserError
from shapebias.network.forward import dtype_of, logits_of
from shapebias.stimuli.categories import IMAGENET_1K, ClassMap
from shapebias.stimuli.classes import map_imagenet_1k_subset, map_synsets, map_words, read_classes

__all__ = ["ClassChoice", "as_choice", "choose_classes", "count_outputs", "outputs_of", "refuse_missing_head"]

ClassChoice = str | ClassMap
"""A class map given by the user, "auto", or "imagenet-1k" to use only these 1000 classes of larger ImageNet heads."""


def as_choice(classes: "ClassMap | str | Path | Sequence[str] | None") -> ClassChoice:
    """Convert an argument to a choice of classes.

    The argument may be "auto" (or None), "imagenet-1k", a class map, the path of a class file, or a list with one word
    per output, as in a class file.

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
    """Choose the class map of a head: which of its outputs belong to which category.

    Heads with 1000 outputs get the toolbox's classes. Larger ImageNet heads, which timm recognises by the number of
    outputs, get their categories from WordNet.

    Args:
        outputs: Number of the head's outputs.
        choice: As returned by `as_choice`.
        name: Name of the network, for messages.
    Raises: UserError if the classes are not known, or the given class map has another number of outputs.
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
    """The class map of an ImageNet head; None if no ImageNet class list has this many classes."""
    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return None
    title, synsets = subset.replace("imagenet", "ImageNet"), ImageNetInfo(subset).label_names()
    if only_1k:
        return map_imagenet_1k_subset(synsets, name=f"classes of ImageNet-1k among those of {title}")
    return map_synsets(synsets, name=f"classes of {title} by WordNet")


def outputs_of(model: nn.Module, preprocessing: Preprocessing, device: torch.device, *, name: str) -> int:
    """Return the number of a network's outputs: its attribute `num_classes`, or else counted on a black image.

    Raises: UserError as `shapebias.network.forward.logits_of`.
    """
    said = getattr(model, "num_classes", None)
    if isinstance(said, int):
        return said
    return count_outputs(model, preprocessing, device, name=name)


def count_outputs(model: nn.Module, preprocessing: Preprocessing, device: torch.device, *, name: str) -> int:
    """Count a network's outputs for a black image.

    Raises: UserError as `shapebias.network.forward.logits_of`.
    """
    shape = (1, preprocessing.channels, *preprocessing.input_size)
    with torch.inference_mode():
        return logits_of(model, torch.zeros(shape, device=device, dtype=dtype_of(model)), name=name).shape[1]


def refuse_missing_head(loaded: LoadedModel, preprocessing: Preprocessing, *, name: str) -> None:
    """Refuse a checkpoint that lacks parameters of which the answers are made, such as a backbone without its head.

    Args:
        loaded: The network, in float32 and not yet optimised.
        preprocessing: Preprocessing of its images.
        name: Name of the network, for messages.
    Raises: UserError if the outputs depend on parameters that the file does not contain, or if there are no outputs
        for classes without them; also as `shapebias.network.forward.logits_of`.
    """
    if loaded.record.head != "none":
        return
    parameters = dict(loaded.model.named_parameters())
    missing = [parameters[key] for key in loaded.head if key in parameters]
    if missing and not _depends_on(loaded.model, missing, preprocessing, name=name):
        return
    raise UserError(
        f"{name}: {loaded.record.file} holds no {', '.join(loaded.head)}, of which its answers are made; name a "
        "checkpoint that holds them by --weights"
    )


def _depends_on(
    model: nn.Module, parameters: Sequence[nn.Parameter], preprocessing: Preprocessing, *, name: str
) -> bool:
    """Whether the outputs depend on parameters: whether they are no longer finite if the parameters are not numbers.

    Gradients would not tell, since the network's code may detach what it computes, or compute without gradients.
    """
    black = torch.zeros(1, preprocessing.channels, *preprocessing.input_size, dtype=dtype_of(model), device="cpu")
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        before = logits_of(model, black, name=name).isfinite()
        try:
            for parameter in parameters:
                parameter.fill_(torch.nan)
            after = logits_of(model, black, name=name).isfinite()
        finally:
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
    return not torch.equal(before, after)

"""The probabilities file: a network's outputs for every stimulus, from which all measures can be computed.

`<model>.probabilities.npz`, compressed:
    probabilities  float32 (N, 1000): softmax of the network's outputs, in the order of ImageNet-1k. Half precision
                   would halve the size, but it makes some different probabilities equal, which changes 3 to 5% of the
                   cue ranks
    images         text (N,): file names of the stimuli, in the same order
    provenance     text: JSON of their origin (network, weights, preprocessing, stimuli, versions)
    classes        text: JSON that describes the outputs, present only if they are not the classes of ImageNet-1k:
                   `name`, `outputs`, and in `indices` the outputs of each category. Probabilities are then (N, outputs)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from runkit import UserError, atomic_write, read_arrays
from runkit.files import reason_in_words
from shapebias.answers.content import NetworkProvenance
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_1K, ClassMap

__all__ = ["Probabilities", "load_probabilities", "save_probabilities"]


@dataclass(frozen=True)
class Probabilities:
    """A network's class probabilities for the stimuli of one experiment.

    Attributes:
        values: float32 (N, C), in [0, 1], in the order of `classes`.
        images: N file names, each once.
        provenance: Their origin: the head of a result file, and `subject` and `label` of the observer.
        classes: The classes of the C outputs; the 1000 of ImageNet-1k by default.
    """

    values: np.ndarray = field(repr=False)
    images: Sequence[str] = field(repr=False)
    provenance: NetworkProvenance = field(repr=False)
    classes: ClassMap = field(default=IMAGENET_1K, repr=False)

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.images), self.classes.num_classes):
            raise ValueError(
                f"probabilities must be ({len(self.images)}, {self.classes.num_classes}), one row per image, "
                f"not {self.values.shape}"
            )
        if len(set(self.images)) != len(self.images):
            raise ValueError("an image is named twice")
        if not ((self.values >= 0.0) & (self.values <= 1.0)).all():
            raise ValueError("a probability is not a number in [0, 1]")

    @property
    def model(self) -> str:
        """Name of the network as the user gave it; its files are named after it."""
        return self.provenance["config"]["model"]


def save_probabilities(probabilities: Probabilities, path: Path) -> None:
    """Write the file atomically."""
    classes, more = probabilities.classes, dict[str, Any]()
    if classes != IMAGENET_1K:
        described = {"name": classes.name, "outputs": classes.num_classes, "indices": dict(classes.indices)}
        more["classes"] = np.array(json.dumps(described))
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=probabilities.values.astype(np.float32, copy=False),
            images=np.array(probabilities.images, dtype=np.str_),
            provenance=np.array(json.dumps(dict(probabilities.provenance), allow_nan=False)),
            **more,
        )


def load_probabilities(path: str | Path) -> Probabilities:
    """Read a probabilities file.

    Raises: UserError if the file is missing, damaged, or was not written by this tool.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
        provenance = json.loads(str(arrays["provenance"]))
        if arrays["probabilities"].dtype.kind != "f" or not isinstance(provenance, dict):
            raise ValueError("its probabilities or its provenance are of another kind")
        names = [str(name) for name in arrays["images"]]
        classes = _read_classes(json.loads(str(arrays["classes"]))) if "classes" in arrays else IMAGENET_1K
        loaded = Probabilities(arrays["probabilities"], names, cast(NetworkProvenance, provenance), classes)
        missing = [key for key in ("config", "subject", "label", "weights", "data") if key not in provenance]
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a .probabilities.npz that shapebias.run wrote") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a probabilities file of shapebias.run: {reason_in_words(error)}") from error
    if missing:
        raise UserError(f"{path} is not a probabilities file of shapebias.run: it does not say its {missing[0]}")
    return loaded


def _read_classes(described: Mapping[str, Any]) -> ClassMap:
    """Parse the description of the classes that `save_probabilities` wrote.

    Raises: KeyError or ValueError if it has another form.
    """
    if not isinstance(described, Mapping):
        raise ValueError("its classes are of another kind")
    outputs = int(described["outputs"])
    indices = {str(name): tuple(map(int, members)) for name, members in described["indices"].items()}
    known = [index for members in indices.values() for index in members]
    if not set(indices) <= set(CATEGORIES) or not all(0 <= index < outputs for index in known):
        raise ValueError("its classes name other categories, or outputs that the head has not")
    return ClassMap(str(described["name"]), outputs, indices)

"""The probabilities file: what a network said about every stimulus, so that no measure needs the network again.

`<model>.probabilities.npz`, compressed:
    probabilities  float32 (N, 1000): softmax of the network's outputs, in the order of ImageNet-1k. Half precision is
                   half the size but ties classes that are not, and so moves 3 to 5% of the cue ranks
    images         text (N,): file names of the stimuli, in the same order
    provenance     text: JSON of what made them (network, weights, preprocessing, stimuli, versions)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from runkit import UserError, atomic_write, read_arrays
from shapebias.answers.content import NetworkProvenance
from shapebias.stimuli.categories import NUM_IMAGENET_CLASSES

__all__ = ["Probabilities", "load_probabilities", "save_probabilities"]


@dataclass(frozen=True)
class Probabilities:
    """A network's class probabilities for the stimuli of one experiment.

    Attributes:
        values: float32 (N, 1000), in [0, 1], in the order of ImageNet-1k.
        images: N file names, each once.
        provenance: What made them: the head of a result file, and `subject` and `label` of the observer.
    """

    values: np.ndarray = field(repr=False)
    images: Sequence[str] = field(repr=False)
    provenance: NetworkProvenance = field(repr=False)

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.images), NUM_IMAGENET_CLASSES):
            raise ValueError(
                f"probabilities must be ({len(self.images)}, {NUM_IMAGENET_CLASSES}), a row for each image, "
                f"not {self.values.shape}"
            )
        if len(set(self.images)) != len(self.images):
            raise ValueError("an image is named twice")
        if not ((self.values >= 0.0) & (self.values <= 1.0)).all():
            raise ValueError("a probability is not a number in [0, 1]")

    @property
    def model(self) -> str:
        """The network as the user named it; its files are called after it."""
        return self.provenance["config"]["model"]


def save_probabilities(probabilities: Probabilities, path: Path) -> None:
    """Write the file, whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            probabilities=probabilities.values.astype(np.float32, copy=False),
            images=np.array(probabilities.images, dtype=np.str_),
            provenance=np.array(json.dumps(dict(probabilities.provenance), allow_nan=False)),
        )


def load_probabilities(path: str | Path) -> Probabilities:
    """Read a probabilities file.

    Raises: UserError if it is missing, damaged, or not one of this tool.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
        provenance = json.loads(str(arrays["provenance"]))
        if arrays["probabilities"].dtype.kind != "f" or not isinstance(provenance, dict):
            raise ValueError("its probabilities or its provenance are of another kind")
        names = [str(name) for name in arrays["images"]]
        loaded = Probabilities(arrays["probabilities"], names, cast(NetworkProvenance, provenance))
        missing = [key for key in ("config", "subject", "label", "weights", "data") if key not in provenance]
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a .probabilities.npz that shapebias.run wrote") from error
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a probabilities file of shapebias.run: {error}") from error
    if missing:
        raise UserError(f"{path} is not a probabilities file of shapebias.run: it does not say its {missing[0]}")
    return loaded

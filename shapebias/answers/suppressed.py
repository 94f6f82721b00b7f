"""What a network answered to images with a cue suppressed, from which everything is measured.

For every variant and image the file `<model>.probabilities.npz` holds the five most probable outputs with their
probabilities, and the probability of the right output. That is enough for every measure here, and stays small for heads
of many classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runkit import UserError, atomic_write, read_arrays

__all__ = ["TOP", "SuppressedAnswers", "load_answers", "save_answers"]

TOP = 5
"""How many of the most probable outputs are kept."""
_SCHEMA = 1


@dataclass(frozen=True)
class SuppressedAnswers:
    """One network's answers to V variants of N images.

    Attributes:
        name: Of the network; files are called after it.
        label: How pictures and tables call it; it names random weights.
        outputs: Number of the network's outputs.
        variants: Labels of the V variants; the first is "none", the images as they are.
        images: Names of the N images.
        labels: int64 (N,): the right output of each image; None for images without labels.
        top_outputs: int32 (V, N, k): the k most probable outputs, the most probable first.
        top_probabilities: float32 (V, N, k): their probabilities.
        label_probability: float32 (V, N): of the right output; None without labels.
        provenance: What made the answers.
    """

    name: str
    label: str
    outputs: int
    variants: tuple[str, ...]
    images: tuple[str, ...]
    labels: np.ndarray | None
    top_outputs: np.ndarray
    top_probabilities: np.ndarray
    label_probability: np.ndarray | None
    provenance: Mapping[str, Any]

    @property
    def first(self) -> np.ndarray:
        """int32 (V, N): the most probable output."""
        return self.top_outputs[..., 0]


def keep_top(probabilities: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
    """What is kept of class probabilities.

    Args:
        probabilities: float32 (N, C).
        labels: int64 (N,), or None.
    Returns: `top_outputs` (N, k), `top_probabilities` (N, k) and with labels `label_probability` (N,). Equal
        probabilities are kept in the order of the outputs, so the first answer is that of `argmax`.
    """
    count = min(TOP, probabilities.shape[1])
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    kept = {
        "top_outputs": order.astype(np.int32),
        "top_probabilities": np.take_along_axis(probabilities, order, axis=1).astype(np.float32),
    }
    if labels is not None:
        kept["label_probability"] = probabilities[np.arange(len(labels)), labels].astype(np.float32)
    return kept


def save_answers(answers: SuppressedAnswers, path: Path) -> None:
    """Write the file, whole or not at all."""
    head = {
        "schema": _SCHEMA,
        "name": answers.name,
        "label": answers.label,
        "outputs": answers.outputs,
        "variants": answers.variants,
        "provenance": answers.provenance,
    }
    arrays: dict[str, Any] = {
        "head": np.array(json.dumps(head, allow_nan=False)),
        "images": np.array(answers.images),
        "top_outputs": answers.top_outputs,
        "top_probabilities": answers.top_probabilities,
    }
    if answers.labels is not None and answers.label_probability is not None:
        arrays |= {"labels": answers.labels, "label_probability": answers.label_probability}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_answers(path: Path) -> SuppressedAnswers:
    """Read what `save_answers` wrote.

    Raises: UserError if the file cannot be read or is none of these.
    """
    arrays = read_arrays(path)
    try:
        head = json.loads(str(arrays["head"]))
        if head["schema"] != _SCHEMA:
            raise UserError(f"{path} has the schema {head['schema']}, this version reads {_SCHEMA}; run it again")
        answers = SuppressedAnswers(
            name=head["name"],
            label=head["label"],
            outputs=head["outputs"],
            variants=tuple(head["variants"]),
            images=tuple(arrays["images"].tolist()),
            labels=arrays.get("labels"),
            top_outputs=arrays["top_outputs"],
            top_probabilities=arrays["top_probabilities"],
            label_probability=arrays.get("label_probability"),
            provenance=head["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no answers of shapebias.reliance: {error}") from error
    _check_shapes(answers, path)
    return answers


def _check_shapes(answers: SuppressedAnswers, path: Path) -> None:
    shape: Sequence[int] = (len(answers.variants), len(answers.images))
    if answers.top_outputs.shape[:2] != shape or answers.top_probabilities.shape != answers.top_outputs.shape:
        raise UserError(f"{path} is damaged: its answers are not of {shape[0]} variants and {shape[1]} images")

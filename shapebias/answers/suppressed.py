"""A network's answers to images with suppressed cues, from which all measures are computed.

For every variant and image, the file `<model>.probabilities.npz` holds the five most probable outputs with their
probabilities, and the probability of the right output. This is enough for all measures, and the file stays small for
heads with many classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runkit import UserError, atomic_write, read_arrays
from runkit.files import reason_in_words

__all__ = ["TOP", "SuppressedAnswers", "load_answers", "save_answers"]

TOP = 5
"""Number of the most probable outputs that are kept."""
_SCHEMA = 1


@dataclass(frozen=True)
class SuppressedAnswers:
    """One network's answers to V variants of N images.

    Attributes:
        name: Name of the network; files are named after it.
        label: Name in figures and tables, which marks random weights.
        outputs: Number of the network's outputs.
        variants: Labels of the V variants; the first is "none", the original images.
        images: Names of the N images.
        labels: int64 (N,): the right output of each image; None for images without labels.
        top_outputs: int32 (V, N, k): the k most probable outputs, the most probable first.
        top_probabilities: float32 (V, N, k): their probabilities.
        label_probability: float32 (V, N): probability of the right output; None without labels.
        provenance: How the answers were computed: the network, the images and the settings.
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
    """Select the part of class probabilities that is kept: the most probable outputs and the right one.

    Args:
        probabilities: float32 (N, C).
        labels: int64 (N,), or None.
    Returns: `top_outputs` (N, k), `top_probabilities` (N, k) and, with labels, `label_probability` (N,). Outputs of
        equal probability are in ascending order, so the first answer is that of `argmax`.
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
    """Write the file atomically."""
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

    Raises: UserError if the file cannot be read or does not hold such answers.
    """
    try:
        arrays = read_arrays(path)
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
        _check(answers)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a .probabilities.npz that shapebias.reliance wrote") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no answers of shapebias.reliance: {reason_in_words(error)}") from error
    return answers


def _check(answers: SuppressedAnswers) -> None:
    """Check that the parts of the answers fit together.

    Raises: ValueError that says what is wrong; KeyError or TypeError if the provenance lacks what the measures need.
    """
    if not isinstance(answers.name, str) or not isinstance(answers.label, str) or not isinstance(answers.outputs, int):
        raise ValueError("its name, its label or its number of outputs is of another kind")
    variants, images = len(answers.variants), len(answers.images)
    shape: Sequence[int] = (variants, images)
    if not variants or not images:
        raise ValueError(f"it has {variants} variants and {images} images")
    top, likely = answers.top_outputs, answers.top_probabilities
    if top.ndim != 3 or top.shape[:2] != shape or not top.shape[2] or likely.shape != top.shape:
        raise ValueError(f"its answers are not of {variants} variants and {images} images")
    _check_outputs(top, answers.outputs, "an answer")
    _check_probabilities(likely)
    labels, of_label = answers.labels, answers.label_probability
    if len(answers.provenance["data"]["size_px"]) != 2:
        raise ValueError("its images have no height and width")
    classes = answers.provenance["config"]["images"]["classes"]
    if (labels is None) != (of_label is None) or (labels is None and classes):
        raise ValueError("its labels, or the probabilities of the labels, are missing")
    if labels is not None and of_label is not None:
        if labels.shape != (images,):
            raise ValueError(f"it has labels of the shape {labels.shape} for {images} images")
        if of_label.shape != shape:
            raise ValueError(f"its probabilities of the labels are not of {variants} variants and {images} images")
        _check_outputs(labels, answers.outputs, "a label")
        _check_probabilities(of_label)


def _check_outputs(indices: np.ndarray, outputs: int, what: str) -> None:
    if indices.dtype.kind not in "iu":
        raise ValueError(f"{what} is no whole number")
    wrong = indices[(indices < 0) | (indices >= outputs)]
    if wrong.size:
        raise ValueError(f"{what} is the output {wrong.flat[0]}, and the network has {outputs}, counted from 0")


def _check_probabilities(values: np.ndarray) -> None:
    if values.dtype.kind != "f" or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("a probability is not a number in [0, 1]")

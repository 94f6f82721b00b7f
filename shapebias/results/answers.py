"""A network's answers on disk: decided from its probabilities, written with all that follows, and read back."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from runkit import load_json, sha256_of_file
from shapebias.answers.content import ProbabilitiesIdentity
from shapebias.answers.decisions import count_ties, decide
from shapebias.answers.observers import Observer, read_observer, write_raw_data
from shapebias.answers.probabilities import Probabilities, load_probabilities
from shapebias.measures.ranks import rank_cues, write_ranks
from shapebias.measures.shape_bias import measure
from shapebias.results.content import AnswersIdentity, NetworkHead
from shapebias.results.files import ResultFolder
from shapebias.stimuli.categories import CATEGORIES, label_of_classes
from shapebias.stimuli.layouts import parse_stimulus

__all__ = ["add_aggregation", "read_answers", "write_answers"]

_logger = logging.getLogger(__name__)


def add_aggregation(identity: ProbabilitiesIdentity, aggregation: str) -> AnswersIdentity:
    """What determines a network's answers, from what determines its probabilities."""
    return {**identity, "aggregation": aggregation}


def write_answers(
    folder: ResultFolder,
    probabilities: Probabilities,
    path: Path,
    *,
    aggregation: str,
    more: Mapping[str, Any] | None = None,
) -> Observer:
    """Decide, and write the raw-data CSV, the cue ranks and the result.

    Args:
        path: The file of the probabilities.
        aggregation: As for `shapebias.answers.decisions.decide`.
        more: Joins the head of the result.
    """
    name, provenance = probabilities.model, probabilities.provenance
    stimuli = [parse_stimulus(Path(image)) for image in probabilities.images]
    classes = probabilities.classes
    answers = decide(probabilities.values, aggregation=aggregation, classes=classes)
    write_raw_data(folder.csv_of(name), provenance["subject"], stimuli, answers)
    write_ranks(folder.ranks_of(name), rank_cues(probabilities.values, probabilities.images, classes=classes))
    random = provenance["weights"]["random"]
    observer = read_answers(folder, name, provenance["label"], random=random, path=path)
    head = {
        **{key: value for key, value in provenance.items() if key not in ("subject", "label")},
        "config": add_aggregation(provenance["config"], aggregation),
        **(more or {}),
        "probabilities": {"file": path.name, "sha256": sha256_of_file(path)},
        "ties": count_ties(probabilities.values, aggregation=aggregation, classes=classes),
        "skipped": [],
    }
    folder.write_observer(observer, cast(NetworkHead, head), measure(observer))
    return observer


def read_answers(folder: ResultFolder, name: str, label: str, *, random: bool, path: Path | None = None) -> Observer:
    """The answers on disk, labelled with the weights that gave them, and the cue ranks where probabilities are known.

    Args:
        path: The file of the probabilities; None for the one in `folder`.
    """
    path = path or folder.probabilities_of(name)
    ranks = None
    if path.exists():
        saved = load_probabilities(path)
        ranks = rank_cues(saved.values, saved.images, classes=saved.classes)
        said, categories = saved.classes.label, saved.classes.categories
    else:
        _logger.info("%s: no %s, so no cue ranks; --overwrite asks the network again", name, path.name)
        head = load_json(json_path).get("classes") if (json_path := folder.json_of(name)).exists() else None
        said, categories = "", CATEGORIES
        if head is not None:
            said, categories = label_of_classes(head["name"], len(head["categories"])), tuple(head["categories"])
    return replace(
        read_observer(folder.csv_of(name)),
        label=f"{label}, {said}" if said else label,
        random=random,
        ranks=ranks,
        categories=None if categories == CATEGORIES else categories,
    )

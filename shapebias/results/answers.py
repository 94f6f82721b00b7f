"""A network's answers on disk: derived from its probabilities, written together with the results, and read back."""

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
    """Extend the identity of a network's probabilities to that of its answers."""
    return {**identity, "aggregation": aggregation}


def write_answers(
    folder: ResultFolder,
    probabilities: Probabilities,
    path: Path,
    *,
    aggregation: str,
    more: Mapping[str, Any] | None = None,
) -> Observer:
    """Derive a network's answers from its probabilities; write the raw-data CSV, the cue ranks and the result.

    Args:
        folder: Folder for the files.
        probabilities: The network's probabilities.
        path: The file that holds them.
        aggregation: As for `shapebias.answers.decisions.decide`.
        more: Further entries of the result's head.
    Returns: The network as an observer.
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
    """Read a network's answers from disk, with the cue ranks if the probabilities are there.

    Args:
        folder: Folder of the files.
        name: Name of the network.
        label: Name for figures and tables, which says the weights; the classes are added if they are not the toolbox's.
        random: Whether its weights are random.
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

"""Asking networks: which weights, which answers are there already, and the files that new answers leave.

torch is loaded only when a network is asked; probabilities that were saved are measured without it.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit import UserError, list_differences, sha256_of_file
from shapebias.categories import count_ties, decide
from shapebias.config import RunConfig, describe
from shapebias.measures import measure
from shapebias.observers import RANDOM_SUFFIX, Observer, read_observer, write_raw_data
from shapebias.probabilities import Probabilities, load_probabilities, save_probabilities
from shapebias.ranks import rank_cues, write_ranks
from shapebias.results import ResultFolder
from shapebias.stimuli import Stimuli, Stimulus, find_stimuli, parse_image_name

if TYPE_CHECKING:  # loads torch
    from replknet.zoo import ResolvedWeights

__all__ = ["measure_networks", "measure_probabilities"]

_logger = logging.getLogger(__name__)


def measure_networks(config: RunConfig, folder: ResultFolder) -> tuple[list[Observer], list[str], list[dict[str, str]]]:
    """Answers of each network, from a finished result, from its probabilities file, or computed now.

    Returns: Observers; a line for each network that failed; name and reason of each that was skipped.
    Raises: UserError if nothing is left to measure, or if the only network fails.
    """
    stimuli = find_stimuli(config.stimuli)
    if not stimuli.is_published_list:
        _logger.warning("%s: these are not the names of the published benchmark", stimuli.folder)
    resolved, skipped = _resolve(config)
    if not resolved:
        raise UserError("no network is left: none of the trained weights can be had; --weights random would run anyway")
    wanted = [_identify(config, weights, stimuli) for weights in resolved]
    finished = [
        folder.find_finished(weights.name, _with_aggregation(identity, config), overwrite=config.overwrite)
        for weights, identity in zip(resolved, wanted, strict=True)
    ]
    observers, failures = [], []
    for weights, identity, content in zip(resolved, wanted, finished, strict=True):
        if content is not None:
            _logger.info("%s: kept the finished result %s", weights.name, folder.json_of(weights.name))
            observers.append(_read_answers(folder, weights.name, _label(weights), random=weights.record.random))
            continue
        try:
            observers.append(_run_network(config, weights, identity, stimuli, folder))
        except UserError as error:
            if len(resolved) == 1:
                raise
            failures.append(f"{weights.name}: {error}")
            _logger.error("%s: %s; going on with the others", weights.name, error)
    if not observers:
        raise UserError("no network could be measured: " + "; ".join(failures))
    return observers, failures, skipped


def measure_probabilities(config: RunConfig, folder: ResultFolder) -> list[Observer]:
    """Answers of the networks whose probabilities were saved, decided as `config` says; no network is loaded.

    Raises: UserError as `load_probabilities`, if two files are of the same network, or if there is a result of another
        configuration and `overwrite` is off.
    """
    observers: list[Observer] = []
    seen: dict[str, Path] = {}
    for path in config.from_probabilities:
        started, clock = datetime.now(timezone.utc), time.perf_counter()
        probabilities = load_probabilities(path)
        name = probabilities.model
        if name in seen:
            raise UserError(f"{path} and {seen[name]} are both of the network {name!r}; name one of them")
        seen[name] = path
        provenance = probabilities.provenance
        wanted = _with_aggregation(provenance["config"], config)
        if folder.find_finished(name, wanted, overwrite=config.overwrite) is not None:
            _logger.info("%s: kept the finished result %s", name, folder.json_of(name))
            random = provenance["weights"]["random"]
            observers.append(_read_answers(folder, name, provenance["label"], random=random, probabilities=path))
        else:
            again = {"remeasured": describe(config, started, clock)}
            observers.append(_write_answers(config, probabilities, path, folder, again))
    return observers


def _resolve(config: RunConfig) -> "tuple[list[ResolvedWeights], list[dict[str, str]]]":
    """The weights of each network; with `auto`, networks whose trained weights cannot be had are left out."""
    from replknet.zoo import WeightsUnavailable, resolve_weights

    resolved, skipped = [], []
    for name in config.models:
        wanted = "pretrained" if config.weights == "auto" else config.weights
        try:
            resolved.append(resolve_weights(name, wanted, seed=config.seed))
        except WeightsUnavailable as error:
            if config.weights != "auto":
                raise
            _logger.warning("skipping %s: %s", name, error)
            skipped.append({"model": name, "reason": str(error)})
    return resolved, skipped


def _identify(config: RunConfig, weights: "ResolvedWeights", stimuli: Stimuli) -> dict[str, Any]:
    """What decides a network's probabilities: two runs that agree in this get the same ones."""
    return {
        "model": weights.name,
        "weights": weights.record.identity,
        "preprocessing": config.preprocessing,
        "stimuli": {"images": len(stimuli), "content_sha256": stimuli.content_sha256},
    }


def _with_aggregation(identity: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """What decides a network's answers: two runs that agree in this have the same result."""
    return {**identity, "aggregation": config.aggregation}


def _subject(weights: "ResolvedWeights") -> str:
    """The `subj` of a network's CSV: its full name; untrained ones say so."""
    if weights.record.random:
        return weights.name + RANDOM_SUFFIX
    return weights.name if weights.record.source == "file" else weights.record.model


def _label(weights: "ResolvedWeights") -> str:
    """How pictures and tables call a network: random weights and a user's checkpoint are named."""
    record = weights.record
    return f"{weights.name}, {record.label}" if record.random or record.source == "file" else _subject(weights)


def _read_answers(
    folder: ResultFolder, name: str, label: str, *, random: bool, probabilities: Path | None = None
) -> Observer:
    """The answers on disk, labelled with the weights that gave them, and the cue ranks where probabilities are known.

    Args:
        probabilities: Their file, if it is not in `folder`.
    """
    path = probabilities or folder.probabilities_of(name)
    ranks = None
    if path.exists():
        saved = load_probabilities(path)
        ranks = rank_cues(saved.values, saved.images)
    else:
        _logger.info("%s: no %s, so no cue ranks; --overwrite asks the network again", name, path.name)
    return replace(read_observer(folder.csv_of(name)), label=label, random=random, ranks=ranks)


def _run_network(
    config: RunConfig, weights: "ResolvedWeights", identity: dict[str, Any], stimuli: Stimuli, folder: ResultFolder
) -> Observer:
    """Ask one network, unless its probabilities were saved; write its answers and its result."""
    path = folder.probabilities_of(weights.name)
    if path.exists() and not config.overwrite:
        probabilities = load_probabilities(path)
        if differences := list_differences(probabilities.provenance["config"], identity):
            raise UserError(
                f"{path} is of another configuration ({'; '.join(differences)}); choose another --output, "
                "or --overwrite"
            )
        _logger.info("%s: measuring the probabilities in %s", weights.name, path)
    else:
        probabilities = _ask_network(config, weights, identity, stimuli)
        save_probabilities(probabilities, path)
    return _write_answers(config, probabilities, path, folder, {})


def _ask_network(
    config: RunConfig, weights: "ResolvedWeights", identity: dict[str, Any], stimuli: Stimuli
) -> Probabilities:
    """The network's probabilities for all stimuli, and what made them."""
    import torch

    from replknet.device import choose_device, device_label
    from replknet.optimize import optimize
    from replknet.zoo import load_model
    from shapebias.inference import TOOLBOX_PREPROCESSING, check_head, default_batch_size, predict

    started, clock = datetime.now(timezone.utc), time.perf_counter()
    device = choose_device(config.device)
    toolbox = config.preprocessing == "toolbox"
    loaded = load_model(weights, input_size=TOOLBOX_PREPROCESSING.input_size if toolbox else None)
    check_head(loaded.model, weights.name)
    preprocessing = TOOLBOX_PREPROCESSING if toolbox else loaded.preprocessing
    batch_size = config.batch_size or default_batch_size(device)
    values = predict(
        optimize(loaded.model).to(device),
        stimuli,
        preprocessing=preprocessing,
        device=device,
        batch_size=batch_size,
        name=weights.name,
        progress=True,
    )
    seconds = time.perf_counter() - clock
    provenance = {
        **describe(config, started, clock),
        "subject": _subject(weights),
        "label": _label(weights),
        "config": identity,
        "seed": config.seed,
        "device": device_label(device),
        "dtype": "float32",
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "images_per_second": round(len(stimuli) / seconds, 2),
        "weights": loaded.record.as_dict(),
        "model_args": loaded.model_args,
        "data": {
            **stimuli.describe(),
            "preprocessing": {
                "choice": config.preprocessing,
                "mean": list(preprocessing.mean),
                "std": list(preprocessing.std),
                "input_size_px": list(preprocessing.input_size),
                "interpolation": preprocessing.interpolation,
                "crop": None,
            },
        },
    }
    return Probabilities(values, [item.name for item in stimuli], provenance)


def _write_answers(
    config: RunConfig, probabilities: Probabilities, path: Path, folder: ResultFolder, more: Mapping[str, Any]
) -> Observer:
    """Decide, write the raw-data CSV and the result; `path` is the probabilities file, `more` joins the JSON's head."""
    name, provenance = probabilities.model, probabilities.provenance
    stimuli = [Stimulus(Path(image), *parse_image_name(image)) for image in probabilities.images]
    answers = decide(probabilities.values, aggregation=config.aggregation)
    write_raw_data(folder.csv_of(name), provenance["subject"], stimuli, answers)
    write_ranks(folder.ranks_of(name), rank_cues(probabilities.values, probabilities.images))
    random = provenance["weights"]["random"]
    observer = _read_answers(folder, name, provenance["label"], random=random, probabilities=path)
    head = {
        **{key: value for key, value in provenance.items() if key not in ("subject", "label")},
        "config": _with_aggregation(provenance["config"], config),
        **more,
        "probabilities": {"file": path.name, "sha256": sha256_of_file(path)},
        "ties": count_ties(probabilities.values, aggregation=config.aggregation),
        "skipped": [],
    }
    folder.write_observer(observer, head, measure(observer))
    return observer

"""Asking networks: which weights, which answers are there already, and the files that new answers leave.

torch is loaded only when a network is asked; probabilities that were saved are measured without it.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from runkit import Failures, UserError, list_differences, sha256_of_file
from runkit.progress import SavedProgress, discard_progress, find_progress, save_progress
from shapebias.answers.observers import RANDOM_SUFFIX, Observer, read_observer, write_raw_data
from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities
from shapebias.measures.ranks import rank_cues, write_ranks
from shapebias.measures.shape_bias import measure
from shapebias.options import RunConfig, describe
from shapebias.results.content import NetworkHead
from shapebias.results.files import ResultFolder
from shapebias.stimuli.categories import count_ties, decide
from shapebias.stimuli.images import Stimuli, Stimulus, find_stimuli, parse_image_name

if TYPE_CHECKING:  # these load torch
    import torch

    from replknet.zoo import LoadedModel, Preprocessing, ResolvedWeights
    from runkit.compute.ranks import World
    from shapebias.network.inference import PrecisionCheck, StimulusReader

__all__ = ["Sweep", "measure_networks", "measure_probabilities"]

_logger = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 30  # of decoded stimuli, for the networks that come after the first
_CHECKED_IMAGES = 16  # that a reduced precision is compared on


def measure_networks(config: RunConfig, folder: ResultFolder) -> tuple[list[Observer], Failures, list[dict[str, str]]]:
    """Answers of each network, from a finished result, from its probabilities file, or computed now.

    Under torchrun the ranks share the stimuli, and rank 0 alone writes; a failing network does not stop the others.

    Returns: Observers, none if all networks failed; the networks that failed; name and reason of each that was skipped.
    Raises: UserError if no network's weights can be had, or if the only network fails.
    """
    from runkit.compute.device import choose_device
    from runkit.compute.ranks import joined_world
    from shapebias.network.inference import StimulusReader

    failures = Failures()
    alone = len(config.models) == 1
    device = choose_device(config.device)
    with joined_world(device) as world:
        stimuli = world.main_first(lambda: find_stimuli(config.stimuli, config.experiment))
        if not stimuli.is_published_list:
            _logger.warning("%s: these are not the names of the published benchmark", stimuli.folder)
        reader = StimulusReader(keep_bytes=0 if alone else _KEPT_BYTES)
        sweep = Sweep(config, folder, stimuli, device, world, reader)
        skipped: list[dict[str, str]] = []
        resolved = [failures.guard(name, partial(sweep.resolve, name, skipped), alone=alone) for name in config.models]
        observers = [
            failures.guard(weights.name, partial(sweep.measure, weights), alone=alone)
            for weights in resolved
            if weights is not None
        ]
    if not observers and len(skipped) == len(config.models):
        raise UserError("no network is left: none of the trained weights can be had; --weights random would run anyway")
    return [observer for observer in observers if observer is not None], failures, skipped


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
        if probabilities.provenance["data"]["name"] != config.experiment.name:
            raise UserError(f"{path} is of the experiment {probabilities.provenance['data']['name']}; say --experiment")
        if name in seen:
            raise UserError(f"{path} and {seen[name]} are both of the network {name!r}; name one of them")
        seen[name] = path
        provenance = probabilities.provenance
        wanted = _with_aggregation(provenance["config"], config)
        if folder.find_finished(name, wanted, overwrite=config.overwrite, resume=config.resume) is not None:
            _logger.info("%s: kept the finished result %s", name, folder.json_of(name))
            random = provenance["weights"]["random"]
            observers.append(_read_answers(folder, name, provenance["label"], random=random, probabilities=path))
        else:
            again = {"remeasured": describe(config, started, clock)}
            observers.append(_write_answers(config, probabilities, path, folder, again))
    return observers


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


@dataclass(frozen=True)
class Sweep:
    """What the networks of a run have in common; its methods are called by all ranks alike."""

    config: RunConfig
    folder: ResultFolder
    stimuli: Stimuli
    device: "torch.device"
    world: "World"
    reader: "StimulusReader"

    def resolve(self, name: str, skipped: list[dict[str, str]]) -> "ResolvedWeights | None":
        """A network's weights; None, and an entry in `skipped`, where `auto` leaves it out for the want of them.

        Raises: UserError if its files are of another configuration, so that this is known before the long work.
        """
        from replknet.zoo import WeightsUnavailable, resolve_weights

        wanted = "pretrained" if self.config.weights == "auto" else self.config.weights
        try:
            weights = self.world.main_first(lambda: resolve_weights(name, wanted, seed=self.config.seed))
        except WeightsUnavailable as error:
            if self.config.weights != "auto":
                raise
            _logger.warning("skipping %s: %s", name, error)
            skipped.append({"model": name, "reason": str(error)})
            return None
        self.world.check_same(self._identify(weights))
        self.world.on_main(lambda: self.is_finished(weights))
        return weights

    def measure(self, weights: "ResolvedWeights") -> Observer:
        """A network's answers: those on disk, or to the probabilities on disk, or computed now and written."""
        identity, path = self._identify(weights), self.folder.probabilities_of(weights.name)
        if self.world.on_main(lambda: self.is_finished(weights)):
            _logger.info("%s: kept the finished result %s", weights.name, self.folder.json_of(weights.name))
            return self.world.on_main(
                lambda: _read_answers(self.folder, weights.name, _label(weights), random=weights.record.random)
            )
        if self.world.on_main(lambda: self.has_probabilities(weights)):
            _logger.info("%s: measuring the probabilities in %s", weights.name, path)
        else:
            probabilities = self._ask(weights, identity)
            self.world.on_main(lambda: save_probabilities(probabilities, path))
        self.world.on_main(lambda: discard_progress(self.folder.partial_of(weights.name), identity))
        return self.world.on_main(lambda: _write_answers(self.config, load_probabilities(path), path, self.folder, {}))

    def _identify(self, weights: "ResolvedWeights") -> dict[str, Any]:
        """What decides a network's probabilities: two runs that agree in this get the same ones."""
        return {
            "model": weights.name,
            "weights": weights.record.identity,
            "preprocessing": self.config.preprocessing,
            "precision": self.config.precision,
            "stimuli": {"images": len(self.stimuli), "content_sha256": self.stimuli.content_sha256},
        }

    def is_finished(self, weights: "ResolvedWeights") -> bool:
        """Whether the finished result of this configuration is on disk."""
        wanted, config = _with_aggregation(self._identify(weights), self.config), self.config
        finished = self.folder.find_finished(weights.name, wanted, overwrite=config.overwrite, resume=config.resume)
        return finished is not None

    def has_probabilities(self, weights: "ResolvedWeights") -> bool:
        """Whether the probabilities of this configuration are on disk.

        Raises: UserError if those of another are, and `overwrite` is off.
        """
        identity, path = self._identify(weights), self.folder.probabilities_of(weights.name)
        if not path.exists() or (self.config.overwrite and not self.config.resume):
            return False
        differences = list_differences(load_probabilities(path).provenance["config"], identity)
        if differences and not self.config.overwrite:
            raise UserError(
                f"{path} is of another configuration ({'; '.join(differences)}); choose another --output, "
                "or --overwrite"
            )
        return not differences

    def find_progress(self, weights: "ResolvedWeights") -> SavedProgress | None:
        """The unfinished run to go on from; raises as `runkit.progress.find_progress`."""
        return find_progress(
            self.folder.partial_of(weights.name),
            self._identify(weights),
            resume=self.config.resume,
            overwrite=self.config.overwrite,
        )

    def _ask(self, weights: "ResolvedWeights", identity: dict[str, Any]) -> Probabilities:
        """The network's probabilities for all stimuli (on rank 0), and what made them."""
        import torch

        from runkit.compute.device import device_label
        from runkit.compute.memory import peak_memory, reset_peak_memory
        from shapebias.network.inference import choose_batch_size, predict

        config, stimuli, partial_path = self.config, self.stimuli, self.folder.partial_of(weights.name)
        saved = self.world.on_main(lambda: self.find_progress(weights))
        started, clock = datetime.now(timezone.utc), time.perf_counter()
        done, earlier, seconds_before, batch_size = 0, None, 0.0, config.batch_size
        if saved is not None:
            earlier = saved.arrays["probabilities"]
            done, seconds_before = len(earlier), saved.head["seconds"]
            batch_size = batch_size or saved.head["batch_size"]
            _logger.info("%s: going on after image %d of %d", weights.name, done, len(stimuli))
        reset_peak_memory(self.device)
        loaded, preprocessing = self.world.together(lambda: self.load(weights))
        precision_check = self._reduce_precision(loaded, preprocessing, weights.name)
        if batch_size is None:
            batch_size = self.world.on_main(
                lambda: choose_batch_size(loaded.model, preprocessing, self.device, weights.name)
            )

        def seconds() -> float:
            return seconds_before + time.perf_counter() - clock

        def save(values: np.ndarray) -> None:
            head = {"batch_size": batch_size, "seconds": seconds()}
            save_progress(partial_path, identity, {"probabilities": values}, head)

        asking = time.perf_counter()
        values = predict(
            loaded.model,
            stimuli,
            preprocessing=preprocessing,
            device=self.device,
            batch_size=batch_size,
            name=weights.name,
            progress=True,
            reader=self.reader,
            world=self.world,
            earlier=earlier,
            save=save,
        )
        asked_seconds = time.perf_counter() - asking
        provenance = {
            **describe(config, started, clock - seconds_before),
            "subject": _subject(weights),
            "label": _label(weights),
            "config": identity,
            "seed": config.seed,
            "device": device_label(self.device),
            "precision": config.precision,
            "precision_check": precision_check and asdict(precision_check),
            "ranks": self.world.size,
            "threads": torch.get_num_threads(),
            "batch_size": batch_size,
            "images_per_second": round((len(stimuli) - done) / asked_seconds, 2),
            "peak_memory": peak_memory(self.device),
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
        return Probabilities(values, [item.name for item in stimuli[: len(values)]], provenance)

    def load(self, weights: "ResolvedWeights") -> "tuple[LoadedModel, Preprocessing]":
        """The network in its fast form on the device, and the preprocessing it gets."""
        from replknet.optimize import optimize
        from replknet.zoo import load_model
        from runkit.compute.memory import keep_freed_memory
        from shapebias.network.inference import TOOLBOX_PREPROCESSING, check_head

        toolbox = self.config.preprocessing == "toolbox"
        loaded = load_model(weights, input_size=TOOLBOX_PREPROCESSING.input_size if toolbox else None)
        check_head(loaded.model, weights.name)
        if self.device.type == "cpu":
            keep_freed_memory()
        model = optimize(loaded.model).to(self.device)
        return replace(loaded, model=model), TOOLBOX_PREPROCESSING if toolbox else loaded.preprocessing

    def refuse_precision(self) -> None:
        """Raises: UserError for float16 on a CPU, whose kernels are many times slower than those of float32."""
        if self.config.precision == "float16" and self.device.type == "cpu":
            raise UserError("--precision float16 is for GPUs; on a CPU take bfloat16 or float32")

    def _reduce_precision(
        self, loaded: "LoadedModel", preprocessing: "Preprocessing", name: str
    ) -> "PrecisionCheck | None":
        """Convert the network, in place, to the precision asked for; what that changes on some stimuli.

        Raises: UserError as `refuse_precision`.
        """
        if self.config.precision == "float32":
            return None
        import torch

        from shapebias.network.inference import check_precision

        self.refuse_precision()
        some = self.stimuli[:: max(1, len(self.stimuli) // _CHECKED_IMAGES)][:_CHECKED_IMAGES]
        dtype = getattr(torch, self.config.precision)
        check = check_precision(
            loaded.model, dtype, some, preprocessing=preprocessing, device=self.device, reader=self.reader, name=name
        )
        _logger.info(
            "%s: %s against float32 on %d images: %d decisions changed, largest difference of a probability %.2g",
            name,
            self.config.precision,
            check.images,
            check.decisions_changed,
            check.largest_difference,
        )
        return check


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
    folder.write_observer(observer, cast(NetworkHead, head), measure(observer))
    return observer

"""Compute the files of networks' answers: the hooks of the shape-bias tool for `runkit.sweep`.

Stimuli -> network -> probabilities (`.npz`) -> decisions (CSV) -> measures (`.json`). torch is imported only if a
network has to be run; decisions and measures are derived from saved probabilities without it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from runkit import UserError, sha256_of_file
from runkit.content import normalisation_said
from runkit.progress import SavedProgress
from runkit.sweep import LeftOut, Preview, Swept, Tool, run_sweep
from shapebias.answers.content import ProbabilitiesIdentity
from shapebias.answers.observers import Observer
from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities
from shapebias.options import Config
from shapebias.results.answers import add_aggregation, read_answers, write_answers
from shapebias.results.comparison import comparison_files
from shapebias.results.content import AnswersIdentity
from shapebias.results.files import ResultFolder
from shapebias.stimuli.experiments import Experiment
from shapebias.stimuli.images import Stimuli, find_all_stimuli, stimuli_at_hand

if TYPE_CHECKING:  # these import torch
    import torch

    from replknet.zoo import ResolvedWeights
    from runkit.compute.rounds import Loop
    from runkit.dry_run import Cost
    from shapebias.network.loading import LoadedNetwork

__all__ = ["AnswerJob", "AnswerTool", "Answered", "job_name", "measure_networks"]

_logger = logging.getLogger(__name__)


class Answered(NamedTuple):
    """A network's answers to an experiment."""

    experiment: Experiment
    observer: Observer


def measure_networks(config: Config) -> Swept[Answered]:
    """Get the answers of each network to each experiment, from a result, from saved probabilities or by running it.

    A network is loaded once for all experiments. If one fails, the others are still run. Under torchrun, the ranks
    share the stimuli, and only rank 0 writes files and returns observers.

    Raises: UserError if the weights of no network are available, or if the only network fails.
    """
    swept = run_sweep(AnswerTool(config))
    if len(swept.skipped) == len(config.asked):
        raise UserError("no network is left: no trained weights are available; --weights random takes untrained ones")
    return swept


@dataclass(frozen=True)
class AnswerJob:
    """A job of the sweep: one network, run on all stimuli of an experiment.

    Attributes:
        weights: The network and its weights.
        folder: The paths of its files.
        stimuli: The images; empty in a dry run if they would have to be downloaded.
        alone: Whether this is the only experiment of the run.
    """

    weights: "ResolvedWeights"
    folder: ResultFolder
    stimuli: Stimuli
    alone: bool = True

    @property
    def network(self) -> str:
        """Name of the network; its files are named after it."""
        return self.weights.name

    @property
    def name(self) -> str:
        """Name of the network, with the experiment if there are several."""
        return self.network if self.alone else job_name(self.network, self.stimuli.experiment)


def job_name(network: str, experiment: Experiment) -> str:
    """Return the name of a network's job in messages and failures of a run with several experiments."""
    return f"{network} on {experiment.name}"


class AnswerTool(Tool[AnswerJob, "LoadedNetwork", np.ndarray, Probabilities, Answered]):
    """Shape bias and related measures. A job is one network, run on the stimuli of an experiment."""

    program = "shapebias.run"
    verb = "ask"
    basis = "extrapolated from trial runs with 1 image and with 4 images together, in proportion to their number"

    def __init__(self, config: Config):
        self.config: Config = config
        self.folders = [ResultFolder.of(config.output, experiment) for experiment in config.experiments]

    # the stimuli and the jobs

    def begin(self, device: "torch.device") -> None:
        self._take(device, find_all_stimuli({part.experiment: part.stimuli for part in self.config.parts}))

    def _take(self, device: "torch.device", stimuli: Sequence[Stimuli]) -> None:
        from shapebias.network.heads import as_choice
        from shapebias.network.inference import StimulusReader
        from shapebias.network.precision import check_precision

        check_precision(self.config.precision, device)
        self.device, self.classes = device, as_choice(self.config.classes)
        self.stimuli = [self._take_some(self._answerable(one)) for one in stimuli]
        self.reader = StimulusReader() if len(self.config.asked) == 1 else StimulusReader.shared()

    def _answerable(self, stimuli: Stimuli) -> Stimuli:
        """Select the stimuli that a network with the user's class list can answer; warn if these are not the benchmark.

        Raises: UserError if there are none.
        """
        classes = self.classes
        if not stimuli or isinstance(classes, str) or classes.complete:
            if stimuli and not stimuli.is_published_list:
                _logger.warning("%s: these are not the names of the published benchmark", stimuli.folder)
            return stimuli
        asked = stimuli.answerable(classes)
        if not asked:
            raise UserError(
                f"none of the {len(stimuli)} {stimuli.experiment.what} is of the categories: {classes.label}"
            )
        _logger.warning("%s; %d of %d %s are used", classes.label, len(asked), len(stimuli), stimuli.experiment.what)
        return asked

    def _take_some(self, stimuli: Stimuli) -> Stimuli:
        """Take the number of stimuli that `--num-images` sets, or all, and warn if these are not as requested."""
        number = self.config.num_images
        if number is not None and stimuli and number > len(stimuli):
            what = stimuli.experiment.what
            _logger.warning(
                "--num-images %d: there are only %d %s that the network can be asked; all are used",
                number,
                len(stimuli),
                what,
            )
        if number is None or number >= len(stimuli):
            return stimuli
        _logger.warning(
            "--num-images: %d of %d %s are used; the results are not comparable with published ones",
            number,
            len(stimuli),
            stimuli.experiment.what,
        )
        return stimuli.take(number)

    def _number_of(self, stimuli: Stimuli) -> int:
        """Number of images that are used, even if they would have to be downloaded first."""
        return len(stimuli) or min(stimuli.experiment.images, self.config.num_images or stimuli.experiment.images)

    def list_jobs(self, name: str, weights: str) -> list[AnswerJob]:
        """As `Tool.list_jobs`.

        Raises: LeftOut if `auto` would mean random weights, whose shape bias is meaningless.
        """
        from replknet.zoo import WeightsUnavailable, resolve_weights

        try:
            resolved = resolve_weights(name, _trained(weights), seed=self.config.seed)
        except WeightsUnavailable as error:
            raise LeftOut(str(error)) if weights == "auto" else error from None
        return self._jobs(resolved)

    def _jobs(self, weights: "ResolvedWeights") -> list[AnswerJob]:
        alone = len(self.stimuli) == 1
        pairs = zip(self.folders, self.stimuli, strict=True)
        return [AnswerJob(weights, folder, stimuli, alone) for folder, stimuli in pairs]

    def check_jobs(self, jobs: Sequence[AnswerJob], missing: Sequence[str]) -> None:
        super().check_jobs(jobs, missing)
        for job in jobs:
            job.folder.refuse_shared_answers(job.network)

    def identify(self, job: AnswerJob) -> ProbabilitiesIdentity:
        config, classes = self.config, self.classes
        identity: ProbabilitiesIdentity = {
            "model": job.weights.name,
            "weights": job.weights.record.identity,
            "preprocessing": config.preprocessing,
            "precision": config.precision,
            "stimuli": {"images": len(job.stimuli), "content_sha256": job.stimuli.content_sha256},
        }
        if classes != "auto":
            identity["classes"] = classes if isinstance(classes, str) else sha256_of_file(Path(config.classes))
        identity.update(normalisation_said(config.mean, config.std))
        return identity

    def identify_result(self, job: AnswerJob) -> AnswersIdentity:
        return add_aggregation(self.identify(job), self.config.aggregation)

    # files on disk

    def files(self, job: AnswerJob) -> list[Path]:
        return job.folder.files_of(job.network)

    def progress_path(self, job: AnswerJob) -> Path:
        return job.folder.partial_of(job.network)

    def find_finished(self, job: AnswerJob) -> dict[str, Any] | None:
        return job.folder.finished_identity(job.network, resume=self.config.resume)

    def is_whole(self, job: AnswerJob) -> bool:
        return job.folder.has_answers(job.network)

    def read_result(self, job: AnswerJob) -> Answered:
        from shapebias.network.loading import label_of

        observer = read_answers(job.folder, job.network, label_of(job.weights), random=job.weights.record.random)
        return Answered(job.folder.experiment, observer)

    def outputs_path(self, job: AnswerJob) -> Path:
        return job.folder.probabilities_of(job.network)

    def find_outputs(self, job: AnswerJob) -> ProbabilitiesIdentity | None:
        path = self.outputs_path(job)
        return load_probabilities(path).provenance["config"] if path.exists() else None

    def load_outputs(self, job: AnswerJob) -> Probabilities:
        return load_probabilities(self.outputs_path(job))

    # computing

    def shared_network(self, job: AnswerJob) -> object:
        return job.weights

    def load_network(self, job: AnswerJob) -> "LoadedNetwork":
        from shapebias.network.loading import find_precision_effects, load_network

        config = self.config
        network = load_network(
            job.weights,
            preprocessing=config.preprocessing,
            device=self.device,
            mean=config.mean,
            std=config.std,
            classes=self.classes,
        )
        if config.precision == "float32":
            return network
        # done for all experiments at once, because the network is no longer in float32 afterwards
        effects = find_precision_effects(network, config.precision, self.stimuli, self.reader, name=job.network)
        return replace(network, precision_effects=effects)

    def compute(self, job: AnswerJob, network: "LoadedNetwork", loop: "Loop") -> np.ndarray:
        from shapebias.network import inference

        return inference.predict(
            network.model,
            job.stimuli,
            preprocessing=network.preprocessing,
            device=self.device,
            name=job.name,
            reader=self.reader,
            loop=loop,
            classes=network.classes,
        )

    def conclude(self, job: AnswerJob, network: "LoadedNetwork", state: np.ndarray, loop: "Loop") -> Probabilities:
        from shapebias.network.loading import describe_answers

        about = describe_answers(job.weights, self.config, network, job.stimuli, loop, self.device)
        names = [item.name for item in job.stimuli]
        return Probabilities(state, names, {**about, "config": self.identify(job)}, network.classes)

    # writing

    def save_outputs(self, job: AnswerJob, outputs: Probabilities) -> None:
        save_probabilities(outputs, self.outputs_path(job))

    def write_result(self, job: AnswerJob, outputs: Probabilities) -> Answered:
        path, aggregation = self.outputs_path(job), self.config.aggregation
        return Answered(job.folder.experiment, write_answers(job.folder, outputs, path, aggregation=aggregation))

    # dry runs

    def begin_dry(self, device: "torch.device") -> None:
        parts = self.config.parts
        at_hand = [stimuli_at_hand(part.stimuli, part.experiment) for part in parts]
        absent = [Stimuli(Path(), (), part.experiment) for part in parts]
        self._take(device, [found or none for found, none in zip(at_hand, absent, strict=True)])

    def preview_jobs(self, name: str, weights: str) -> list[Preview[AnswerJob]]:
        from replknet.listing import SOURCES, find_source, foresee_weights

        if weights == "auto" and find_source(name, weights) is None:
            raise LeftOut(SOURCES[None])
        found = foresee_weights(name, _trained(weights), seed=self.config.seed)
        previews = []
        for job in self._jobs(found.weights):
            absent = [*([] if found.at_hand else ["weights"]), *([] if job.stimuli else ["images"])]
            previews.append(Preview(job, found.label, " and ".join(absent)))
        return previews

    def count_images(self, job: AnswerJob) -> int:
        return self._number_of(job.stimuli)

    def count_done(self, saved: SavedProgress) -> int:
        return len(saved.arrays["probabilities"])

    def estimate_cost(self, job: AnswerJob, images: int) -> "Cost":
        from shapebias.network.cost import estimate_cost

        return estimate_cost(job.weights, self.config, self.device, images, self.classes)

    def describe_inputs(self) -> str:
        described = []
        for stimuli in self.stimuli:
            where = f"in {stimuli.folder}" if stimuli else "that would be downloaded"
            described.append(f"{self._number_of(stimuli)} {stimuli.experiment.what} {where}")
        return f"{', '.join(described)}, in {self.config.precision} on {self.device}"

    def common_files(self, jobs: Sequence[AnswerJob]) -> list[Path]:
        return [path for folder in self.folders for path in comparison_files(folder, self.config.formats)]


def _trained(weights: str) -> str:
    """Resolve 'auto' of `--weights` to 'pretrained', since networks without trained weights are left out."""
    return "pretrained" if weights == "auto" else weights

"""Networks' answers as files: the hooks that the shape-bias tool gives to the life of a run.

Stimuli -> network -> probabilities (`.npz`) -> decisions (CSV) -> measures (`.json`). torch is loaded when a network
has to be asked; what is on disk is decided and measured without it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runkit.progress import SavedProgress
from runkit.sweep import Preview, Swept, Tool, run_sweep
from shapebias.answers.observers import Observer
from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities
from shapebias.options import Config
from shapebias.results.answers import add_aggregation, read_answers, write_answers
from shapebias.results.comparison import comparison_files
from shapebias.results.files import ResultFolder
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.images import Stimuli, find_stimuli, stimuli_at_hand

if TYPE_CHECKING:  # these load torch
    import torch

    from replknet.zoo import ResolvedWeights
    from runkit.compute.rounds import Loop
    from runkit.dry_run import Cost
    from shapebias.network.loading import LoadedNetwork

__all__ = ["AnswerJob", "AnswerTool", "measure_networks"]

_logger = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 30  # of decoded stimuli, for the networks that come after the first


def measure_networks(config: Config, folder: ResultFolder) -> Swept[Observer]:
    """Answers of each network, from a finished result, from its probabilities file, or computed now.

    Under torchrun the ranks share the stimuli, and rank 0 alone writes and has observers; a failing network does not
    stop the others.

    Raises: UserError if no network's weights can be had, or if the only network fails.
    """
    from shapebias.network.trained import check_any_left

    swept = run_sweep(AnswerTool(config, folder))
    check_any_left(swept, config)
    return swept


@dataclass(frozen=True)
class AnswerJob:
    """One network that is asked all stimuli of an experiment.

    Attributes:
        weights: The network and its weights.
        folder: Where its files lie.
        stimuli: The images; none in a dry run for which they would have to be downloaded.
    """

    weights: "ResolvedWeights"
    folder: ResultFolder
    stimuli: Stimuli

    @property
    def name(self) -> str:
        """The network's: the files are called after it."""
        return self.weights.name


class AnswerTool(Tool[AnswerJob, "LoadedNetwork", np.ndarray, Probabilities, Observer]):
    """Shape bias; a job is one network that is asked the stimuli of an experiment."""

    program = "shapebias.run"
    verb = "ask"
    basis = "from runs with 1 image and with 4 images together, by their number"

    def __init__(self, config: Config, folder: ResultFolder):
        self.config: Config = config
        self.folder = folder

    # what is asked

    def begin(self, device: "torch.device") -> None:
        self._take(device, find_stimuli(self.config.stimuli, self.config.experiment))
        if not self.stimuli.is_published_list:
            _logger.warning("%s: these are not the names of the published benchmark", self.stimuli.folder)

    def _take(self, device: "torch.device", stimuli: Stimuli) -> None:
        from shapebias.network.inference import StimulusReader
        from shapebias.network.precision import check_precision

        check_precision(self.config.precision, device)
        self.device, self.stimuli = device, stimuli
        self.reader = StimulusReader(keep_bytes=0 if len(self.config.asked) == 1 else _KEPT_BYTES)

    def list_jobs(self, name: str, weights: str) -> list[AnswerJob]:
        """Raises: LeftOut where `auto` would mean random weights, whose shape bias means nothing."""
        from shapebias.network.trained import resolve_trained

        return [AnswerJob(resolve_trained(name, weights, seed=self.config.seed), self.folder, self.stimuli)]

    def identify(self, job: AnswerJob) -> dict[str, Any]:
        return {
            "model": job.weights.name,
            "weights": job.weights.record.identity,
            "preprocessing": self.config.preprocessing,
            "precision": self.config.precision,
            "stimuli": {"images": len(job.stimuli), "content_sha256": job.stimuli.content_sha256},
        }

    def identify_result(self, job: AnswerJob) -> dict[str, Any]:
        return add_aggregation(self.identify(job), self.config.aggregation)

    # what is on disk

    def files(self, job: AnswerJob) -> list[Path]:
        return job.folder.files_of(job.name)

    def progress_path(self, job: AnswerJob) -> Path:
        return job.folder.partial_of(job.name)

    def find_finished(self, job: AnswerJob) -> dict[str, Any] | None:
        return job.folder.finished_identity(job.name, resume=self.config.resume)

    def is_whole(self, job: AnswerJob) -> bool:
        return job.folder.has_answers(job.name)

    def read_result(self, job: AnswerJob) -> Observer:
        from shapebias.network.provenance import label_of

        return read_answers(job.folder, job.name, label_of(job.weights), random=job.weights.record.random)

    def outputs_path(self, job: AnswerJob) -> Path:
        return job.folder.probabilities_of(job.name)

    def find_outputs(self, job: AnswerJob) -> dict[str, Any] | None:
        path = self.outputs_path(job)
        return load_probabilities(path).provenance["config"] if path.exists() else None

    def load_outputs(self, job: AnswerJob) -> Probabilities:
        return load_probabilities(self.outputs_path(job))

    # what is computed

    def shared_network(self, job: AnswerJob) -> object:
        return job.weights

    def load_network(self, job: AnswerJob) -> "LoadedNetwork":
        from shapebias.network.loading import find_precision_effect, load_network

        config = self.config
        network = load_network(job.weights, preprocessing=config.preprocessing, device=self.device)
        if config.precision == "float32":
            return network
        effect = find_precision_effect(network, config.precision, job.stimuli, self.reader, name=job.name)
        return replace(network, precision_effect=effect)

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
        )

    def conclude(self, job: AnswerJob, network: "LoadedNetwork", state: np.ndarray, loop: "Loop") -> Probabilities:
        from shapebias.network.provenance import describe_answers

        about = describe_answers(job.weights, self.config, network, job.stimuli, loop, self.device)
        return Probabilities(state, [item.name for item in job.stimuli], {**about, "config": self.identify(job)})

    # what is written

    def save_outputs(self, job: AnswerJob, outputs: Probabilities) -> None:
        save_probabilities(outputs, self.outputs_path(job))

    def write_result(self, job: AnswerJob, outputs: Probabilities) -> Observer:
        return write_answers(job.folder, outputs, self.outputs_path(job), aggregation=self.config.aggregation)

    # what a dry run asks

    def begin_dry(self, device: "torch.device") -> None:
        config = self.config
        at_hand = stimuli_at_hand(config.stimuli, config.experiment)
        self._take(device, at_hand or Stimuli(Path(), (), config.experiment))

    def preview_jobs(self, name: str, weights: str) -> list[Preview[AnswerJob]]:
        from shapebias.network.trained import foresee_trained

        found = foresee_trained(name, weights, seed=self.config.seed)
        unknown = "" if found.at_hand and self.stimuli else "these weights and images"
        return [Preview(AnswerJob(found.weights, self.folder, self.stimuli), found.label, unknown)]

    def count_images(self, job: AnswerJob) -> int:
        return len(job.stimuli) or len(CATEGORIES) * job.stimuli.experiment.images_per_category

    def count_done(self, saved: SavedProgress) -> int:
        return len(saved.arrays["probabilities"])

    def estimate_cost(self, job: AnswerJob, images: int) -> "Cost":
        from shapebias.network.cost import estimate_cost

        return estimate_cost(job.name, self.config, self.device, images)

    def describe_inputs(self) -> str:
        config, stimuli = self.config, self.stimuli
        count = len(stimuli) or len(CATEGORIES) * config.experiment.images_per_category
        where = f"in {stimuli.folder}" if stimuli else "that would be downloaded"
        return f"{count} {config.experiment.what} {where}, in {config.precision} on {self.device}"

    def common_files(self, jobs: Sequence[AnswerJob]) -> list[Path]:
        return comparison_files(self.folder, self.config.formats)

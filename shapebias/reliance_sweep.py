"""Compute the files of reliance: the hooks of `shapebias.reliance` for `runkit.sweep`.

Images -> suppressions -> network -> answers (`.npz`) -> measures (`.json`). torch is imported only if a network has to
be run; saved answers are measured without it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runkit import UserError, load_json
from runkit.content import normalisation_said
from runkit.options import RunOptions
from runkit.progress import SavedProgress
from runkit.sweep import LeftOut, Preview, Swept, Tool, run_sweep
from shapebias.answers.suppressed import SuppressedAnswers, load_answers, save_answers
from shapebias.measures.reliance import Draws, measure_reliance
from shapebias.results.reliance import RelianceFolder, comparison_files, write_reliance
from shapebias.stimuli.classes import read_class_lines
from shapebias.stimuli.folders import ImageFolder, find_folder, match_classes, match_lines
from shapebias.stimuli.suppressed import SuppressedImages
from shapebias.stimuli.suppressions import Variant, choose_variants, opencv

if TYPE_CHECKING:  # these import torch
    import torch

    from replknet.zoo import LoadedModel, ResolvedWeights
    from runkit.compute.rounds import Loop
    from runkit.dry_run import Cost

__all__ = ["Config", "RelianceJob", "RelianceTool", "ask_networks"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(RunOptions):
    """The parsed command line; attributes have the names of the options.

    Attributes:
        images: Folder of class folders or, with `unlabelled`, of images.
        num_images: Maximal number of images; None for all.
        unlabelled: Whether only changes of the answers are measured.
        suppress: What to suppress, as for `choose_variants`.
        classes: Text file with the name of each output; None if the names are known or not needed.
        from_probabilities: Saved answers to measure instead of networks.
        control: Number of images on which the effect of suppressions on the images themselves is measured; 0 for none.
    """

    images: Path | None = None
    num_images: int | None = None
    unlabelled: bool = False
    suppress: tuple[str, ...] = ("all",)
    classes: Path | None = None
    from_probabilities: tuple[Path, ...] = ()
    control: int = 16


@dataclass(frozen=True)
class RelianceJob:
    """A job of the sweep: one network, run on all images under all suppressions."""

    weights: "ResolvedWeights"
    folder: RelianceFolder

    @property
    def name(self) -> str:
        """Name of the network; its files are named after it."""
        return self.weights.name


@dataclass(frozen=True)
class _Network:
    """A network on the device, with the output that corresponds to each image's class."""

    loaded: "LoadedModel"
    outputs: int
    labels: np.ndarray | None
    matched: str


@dataclass
class _Given:
    """The images and suppressions, which are the same for every network."""

    images: ImageFolder
    variants: list[Variant]
    sha256: str = ""
    made: SuppressedImages | None = field(default=None, repr=False)


def ask_networks(config: Config, folder: RelianceFolder) -> Swept[SuppressedAnswers]:
    """Get the answers of each network, from a finished result or by running it; see `runkit.sweep.run_sweep`.

    Raises: UserError if the weights of no network are available, or if the only network fails.
    """
    swept = run_sweep(RelianceTool(config, folder))
    if len(swept.skipped) == len(config.asked):
        raise UserError("no network is left: no trained weights are available; --weights random takes untrained ones")
    return swept


class RelianceTool(Tool[RelianceJob, _Network, dict[str, np.ndarray], SuppressedAnswers, SuppressedAnswers]):
    """Reliance on cues. A job is one network, run on every image under every suppression."""

    program = "shapebias.reliance"
    verb = "show"
    basis = "from one image through each network, by their number; making the images is not counted"

    def __init__(self, config: Config, folder: RelianceFolder):
        self.config: Config = config
        self.folder = folder

    # the images and the jobs

    def begin(self, device: "torch.device") -> None:
        from shapebias.network.suppressed import room_for_images

        self.begin_dry(device)
        self.given.sha256 = self.given.images.sha256()
        several = len(self.config.asked) > 1  # a single network uses each image only once
        kept = room_for_images() if several else 0
        self.given.made = SuppressedImages(self.given.images.images, self.given.variants, keep_bytes=kept)

    @cached_property
    def images(self) -> ImageFolder:
        """The images of the run.

        Raises: UserError as `find_folder`, or if no folder is given.
        """
        config = self.config
        if config.images is None:
            raise UserError("--images DIR is missing: a folder with one folder of images per class")
        return find_folder(config.images, config.num_images, labelled=not config.unlabelled)

    def refuse_early(self) -> None:
        choose_variants(self.config.suppress)
        if self.config.classes is not None:
            match_lines(self.images.classes, read_class_lines(self.config.classes), file=self.config.classes)
        number, found = self.config.num_images, self.images.found
        if number is not None and number > found:
            _logger.warning(
                "--num-images %d: there are only %d images in %s; all are used", number, found, self.config.images
            )

    def begin_dry(self, device: "torch.device") -> None:
        self.device, self.given = device, _Given(self.images, choose_variants(self.config.suppress))

    def list_jobs(self, name: str, weights: str) -> list[RelianceJob]:
        """As `Tool.list_jobs`.

        Raises: LeftOut if `auto` would mean random weights, whose reliance is meaningless.
        """
        from replknet.zoo import WeightsUnavailable, resolve_weights

        wanted = "pretrained" if weights == "auto" else weights
        try:
            return [RelianceJob(resolve_weights(name, wanted, seed=self.config.seed), self.folder)]
        except WeightsUnavailable as error:
            raise LeftOut(str(error)) if weights == "auto" else error from None

    def identify(self, job: RelianceJob) -> dict[str, Any]:
        images = self.given.images
        own = [v.suppression for v in self.given.variants if v.suppression and v.suppression.code_sha256]
        identity: dict[str, Any] = {
            "model": job.weights.name,
            "weights": job.weights.record.identity,
            "images": {"number": len(images.images), "sha256": self.given.sha256, "classes": len(images.classes)},
            "suppressions": [variant.label for variant in self.given.variants],
            "own_code": {one.name: one.code_sha256 for one in own},
            "class_names": self._class_names(),
            "precision": self.config.precision,
        }
        identity.update(normalisation_said(self.config.mean, self.config.std))
        return identity

    def _class_names(self) -> list[str] | None:
        """The lines of the user's class file, one for each output; None without a file.

        Raises: UserError if the file cannot be read.
        """
        return None if self.config.classes is None else read_class_lines(self.config.classes)

    def _match(self, outputs: int, name: str) -> tuple[dict[str, int], str]:
        """Find the output of a network that corresponds to each class folder, and describe how; see `match_classes`.

        Raises: UserError as `match_classes` and `match_lines`, or if the user's class file is of another number of
            outputs.
        """
        from shapebias.network.suppressed import name_outputs

        classes, file = self.given.images.classes, self.config.classes
        if file is None:
            return match_classes(classes, outputs, name_outputs(outputs), network=name)
        if len(lines := read_class_lines(file)) != outputs:
            raise UserError(
                f"{name} has {outputs} outputs, but --classes {file} has {len(lines)} lines: the file must have one "
                "line per output"
            )
        return match_lines(classes, lines, file=file), "folders by the lines of --classes"

    # files on disk

    def files(self, job: RelianceJob) -> list[Path]:
        return job.folder.files_of(job.name)

    def progress_path(self, job: RelianceJob) -> Path:
        return job.folder.partial_of(job.name)

    def find_finished(self, job: RelianceJob) -> dict[str, Any] | None:
        path = job.folder.json_of(job.name)
        return load_json(path).get("config", {}) if path.exists() else None

    def is_whole(self, job: RelianceJob) -> bool:
        from shapebias.results.files import refuse_other_probabilities  # imports pandas, which would delay --help

        refuse_other_probabilities(job.folder.json_of(job.name), self.outputs_path(job))
        return self.outputs_path(job).exists()

    def read_result(self, job: RelianceJob) -> SuppressedAnswers:
        return load_answers(self.outputs_path(job))

    def outputs_path(self, job: RelianceJob) -> Path:
        return job.folder.probabilities_of(job.name)

    def find_outputs(self, job: RelianceJob) -> dict[str, Any] | None:
        path = self.outputs_path(job)
        return dict(load_answers(path).provenance["config"]) if path.exists() else None

    def load_outputs(self, job: RelianceJob) -> SuppressedAnswers:
        return load_answers(self.outputs_path(job))

    # computing

    def load_network(self, job: RelianceJob) -> _Network:
        from dataclasses import replace

        from replknet.optimize import optimize
        from replknet.zoo import load_model
        from runkit.compute.memory import keep_freed_memory
        from shapebias.network.heads import count_outputs, refuse_missing_head

        opencv()  # refuses its absence before the network is built
        loaded = load_model(job.weights)
        if (channels := loaded.preprocessing.channels) != 3:
            raise UserError(
                f"{job.name} takes images of {channels} channel{'s' * (channels > 1)}; reliance on cues, colour among "
                "them, is measured on colour images alone: take a network of 3 channels"
            )
        refuse_missing_head(loaded, loaded.preprocessing, name=job.name)
        loaded = replace(loaded, preprocessing=loaded.preprocessing.normalised_by(self.config.mean, self.config.std))
        if self.device.type == "cpu":
            keep_freed_memory()
        loaded = replace(loaded, model=optimize(loaded.model).to(self.device))
        outputs = count_outputs(loaded.model, loaded.preprocessing, self.device, name=job.name)
        if self.config.unlabelled:
            return _Network(loaded, outputs, None, "without labels")
        images = self.given.images
        output_of, matched = self._match(outputs, job.name)
        _logger.info("%s: %d classes matched with %d outputs: %s", job.name, len(images.classes), outputs, matched)
        labels = np.array([output_of[image.label] for image in images.images])
        return _Network(loaded, outputs, labels, matched)

    def compute(self, job: RelianceJob, network: _Network, loop: "Loop") -> dict[str, np.ndarray]:
        from shapebias.network.suppressed import predict_suppressed

        assert self.given.made is not None  # set by begin()
        return predict_suppressed(
            network.loaded.model,
            self.given.made,
            network.labels,
            preprocessing=network.loaded.preprocessing,
            device=self.device,
            name=job.name,
            outputs=network.outputs,
            loop=loop,
        )

    def conclude(
        self, job: RelianceJob, network: _Network, state: dict[str, np.ndarray], loop: "Loop"
    ) -> SuppressedAnswers:
        from replknet.used_kernels import describe_kernels, has_large_depthwise
        from runkit import describe_run
        from runkit.compute.provenance import describe_computation
        from shapebias.network.loading import label_of

        config, images, wants = self.config, self.given.images, network.loaded.preprocessing
        provenance = {
            **describe_run(
                program=self.program, arguments=config.arguments, started=loop.started, seconds=loop.seconds
            ),
            "config": self.identify(job),
            "seed": config.seed,
            "precision": config.precision,
            **describe_computation(loop, self.device),
            **describe_kernels(self.device, large_depthwise=has_large_depthwise(network.loaded.model)),
            "weights": network.loaded.record.as_dict(),
            "model_args": network.loaded.model_args,
            "data": {
                "name": images.root.name,
                "images_found": images.found,
                "images_chosen": len(images.images),
                "classes": list(images.classes),
                "classes_matched": network.matched,
                "sha256": self.given.sha256,
                "mean": list(wants.mean),
                "std": list(wants.std),
                "size_px": list(wants.input_size),
                "interpolation": "bilinear (OpenCV), without crop",
                "opencv": opencv().__version__,
            },
        }
        return SuppressedAnswers(
            name=job.name,
            label=label_of(job.weights),
            outputs=network.outputs,
            variants=tuple(variant.label for variant in self.given.variants),
            images=tuple(image.name for image in images.images),
            labels=network.labels,
            top_outputs=state["top_outputs"],
            top_probabilities=state["top_probabilities"],
            label_probability=state.get("label_probability"),
            provenance=provenance,
        )

    # writing

    def save_outputs(self, job: RelianceJob, outputs: SuppressedAnswers) -> None:
        save_answers(outputs, self.outputs_path(job))

    def write_result(self, job: RelianceJob, outputs: SuppressedAnswers) -> SuppressedAnswers:
        measured = measure_reliance(outputs, self.given.variants, draws=Draws.of(len(outputs.images)))
        write_reliance(measured, outputs, self.outputs_path(job), job.folder.json_of(job.name))
        return outputs

    # dry runs

    def preview_jobs(self, name: str, weights: str) -> Sequence[Preview[RelianceJob]]:
        from replknet.listing import SOURCES, find_source, foresee_weights

        if weights == "auto" and find_source(name, weights) is None:
            raise LeftOut(SOURCES[None])
        wanted = "pretrained" if weights == "auto" else weights
        found = foresee_weights(name, wanted, seed=self.config.seed)
        return [Preview(RelianceJob(found.weights, self.folder), found.label, "" if found.at_hand else "weights")]

    def count_images(self, job: RelianceJob) -> int:
        return len(self.given.images.images) * len(self.given.variants)

    def count_done(self, saved: SavedProgress) -> int:
        return len(saved.arrays["top_outputs"])

    def estimate_cost(self, job: RelianceJob, images: int) -> "Cost":
        from shapebias.network.suppressed import estimate_cost

        return estimate_cost(job.weights, self.device, images, batch_size=self.config.batch_size)

    def describe_inputs(self) -> str:
        given = self.given
        return f"{len(given.images.images)} images of {given.images.root} under {len(given.variants)} variants"

    def common_files(self, jobs: Sequence[RelianceJob]) -> list[Path]:
        return comparison_files(self.folder, self.config.formats)

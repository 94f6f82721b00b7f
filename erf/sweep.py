"""Contribution maps of networks as files: the receptive-field tool's hooks for `runkit.sweep`.

Data flow: images -> network -> mean map (`.npz`) -> measures (`.json`) -> picture. torch is imported only when a
network has to run; maps on disk are measured and drawn without it.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erf.drawing import check_labels
from erf.gradient.jobs import Job, list_jobs
from erf.gradient.layers.layer import Layer, LayerError
from erf.gradient.positions import positions_of
from erf.measures.sums import stack_sums
from erf.options import Config
from erf.results.content import FieldIdentity, FieldProvenance, Stopping
from erf.results.files import (
    ErfResult,
    check_result,
    finished_identity,
    load_result,
    manifest_file,
    result_files,
    save_result,
)
from erf.results.single_maps import SingleMaps, maps_file, save_maps
from erf.results.tables import comparison_files
from erf.until import MIN_IMAGES
from runkit import UserError, file_stem, save_csv
from runkit.content import normalisation_said
from runkit.progress import SavedProgress
from runkit.sizes import pixels_of
from runkit.sweep import Preview, Swept, Tool, run_sweep

if TYPE_CHECKING:  # these import torch
    import torch

    from erf.gradient.accumulate import Progress
    from erf.gradient.images import ImageSet
    from erf.gradient.ready import LoadedNetwork, Question
    from replknet.zoo import ResolvedWeights
    from runkit.compute.rounds import Loop
    from runkit.dry_run import Cost

__all__ = ["FieldTool", "measure_networks"]

_logger = logging.getLogger(__name__)
_STAGES = 4
"""Nearly every network has at least this many feature maps. They are counted only if a later map is requested."""
_PHOTOGRAPH = 384  # pixels: longer side of the photographs that are saved with the maps of single images


def measure_networks(config: Config, folder: Path | None = None) -> Swept[ErfResult]:
    """Compute the contribution maps of all requested networks, or read those that exist already.

    Under torchrun, the ranks share the images, and only rank 0 writes files and returns results. A failing network does
    not stop the others.

    Args:
        folder: Folder for the files; None for `config.folder`.

    Raises: UserError for an error that concerns all networks, or if there is only one network and it fails.
    """
    return run_sweep(FieldTool(config, folder or config.folder))


class FieldTool(Tool[Job, "LoadedNetwork", "Progress", ErfResult, ErfResult]):
    """The receptive-field tool. A job is one map: of one network with one set of weights, at one size and layer."""

    program = "erf.visualize"
    basis = (
        "extrapolated from trial runs with one image at half and a quarter of the size, in proportion to "
        "multiplications and pixels"
    )

    def __init__(self, config: Config, folder: Path, *, command: str | None = None):
        """Create the tool for a run.

        Args:
            config: Configuration of the run.
            folder: Folder for the files.
            command: Command for the provenance; None for the command line.
        """
        self.config: Config = config
        self.folder = folder
        self.command = command

    # the jobs of the run

    @cached_property
    def images(self) -> "ImageSet":
        """The images of the run.

        Raises: UserError as `erf.gradient.images.find_images`.
        """
        from erf.gradient.images import find_images

        return find_images(self.config.images, self.config.num_images)

    def refuse_early(self) -> None:
        number, images = self.config.num_images, self.images
        if self.config.num_images_said and images.found < number:
            _logger.warning(
                "--num-images %d: there %s (%s); all are used",
                number,
                "is only 1 image" if images.found == 1 else f"are only {images.found} images",
                images.name,
            )

    def check_jobs(self, jobs: Sequence[Job], missing: Sequence[str]) -> None:
        if twice := [name for name, count in Counter(job.name for job in jobs).items() if count > 1]:
            layers = f"--layer {' '.join(self.config.layer)}"
            raise UserError(f"{layers} asks for {twice[0]} more than once; results of one name share their files")
        try:
            check_labels(self.config.labels, [*(job.name for job in jobs), *missing])
        except ValueError as error:
            raise UserError(f"--{error}") from error

    def begin(self, device: "torch.device") -> None:
        from erf.gradient.precision import check_precision
        from erf.gradient.ready import check_size

        for size in self.config.size:
            check_size(size)
        check_precision(self.config.precision, device)
        if self.config.cuda_graphs and device.type != "cuda":
            raise UserError(f"--cuda-graphs needs an NVIDIA GPU, and this run is on {device}")
        for layer in self.config.layer:
            self._asked(layer)
        self.device = device
        self.image_sha256 = self.images.sha256
        if self.config.until is not None and len(self.images.paths) < MIN_IMAGES:
            raise UserError(
                f"--until measures at least {MIN_IMAGES} images; there are {len(self.images.paths)} "
                f"({self.images.name}): name a folder of more by --images"
            )

    def list_jobs(self, name: str, weights: str) -> list[Job]:
        from replknet.zoo import resolve_weights

        self._refuse_positions(name)
        return self.jobs_of(weights, resolve_weights(name, weights, seed=self.config.seed))

    def _refuse_positions(self, name: str) -> None:
        """Refuse a feature map that a timm network does not have, before its weights are downloaded.

        Raises: UserError if the network has fewer feature maps than a layer requires.
        """
        positions = [layer.position for layer in map(self._asked, self.config.layer) if layer.position is not None]
        unusual = [position for position in positions if not -_STAGES <= position < _STAGES]
        if not unusual:
            return
        from replknet.zoo import count_feature_maps, is_registered

        if is_registered(name):
            count = count_feature_maps(name)
            for position in unusual:
                if not -count <= position < count:
                    raise UserError(f"{name}: layer {position}: the network has feature maps 0 to {count - 1}")

    def jobs_of(self, option: str, weights: "ResolvedWeights", *, name: str | None = None) -> list[Job]:
        """The requested maps of a network.

        Args:
            option: The value of `--weights` that `weights` were resolved from.
            weights: The network's weights.
            name: Name of the results; None for the network's own.
        """
        from replknet.zoo import count_feature_maps

        stages = count_feature_maps(weights.name) if "all" in self.config.layer else 0
        return list_jobs(self.config, option, weights, stages, name=name)

    def identify(self, job: Job) -> FieldIdentity:
        """Everything that determines a map, which excludes the device and the batch size.

        The position 'centre' is left out, for compatibility with older results.
        """
        position = self.config.position
        identity: FieldIdentity = {
            "model": job.weights.name,
            "weights": job.weights.record.identity,
            "images": self.image_sha256,
            "num_images": len(self.images.paths),
            "size": job.size if isinstance(job.size, int) else list(job.size),
            "layer": job.layer,
            "precision": self.config.precision,
            "plain": self.config.plain,
        }
        if position != "centre":
            identity["position"] = position if isinstance(position, str) else list(position)
        if self.config.layout is not None:
            identity["layout"] = self.config.layout
        if self.config.call is not None:
            identity["call"] = self.config.call
        if self.config.prefix_tokens is not None:
            identity["prefix_tokens"] = self.config.prefix_tokens
        identity.update(normalisation_said(self.config.mean, self.config.std))
        if self.config.until is not None:
            identity["until"] = self.config.until
        return identity

    # files on disk

    def files(self, job: Job) -> list[Path]:
        files = result_files(self.folder, job.name, self.config.formats, self.config.sheets)
        return [*files, manifest_file(self.folder, job.name)]

    def progress_path(self, job: Job) -> Path:
        return self.folder / f"{file_stem(job.name)}.partial.npz"

    def find_finished(self, job: Job) -> dict[str, Any] | None:
        return finished_identity(self.folder / file_stem(job.name))

    def is_whole(self, job: Job) -> bool:
        """Whether the maps of single images exist, if this run needs them."""
        whole = not self.config.sheets or maps_file(self.folder, job.name).exists()
        if not whole:
            _logger.info("%s: the finished result has no maps of single images and is computed again", job.name)
        return whole

    def read_result(self, job: Job) -> ErfResult:
        """Read a map, then measure and draw it again with the options of this run."""
        return self.write_result(job, load_result(self.files(job)[0], maps=bool(self.config.sheets)))

    # computation

    def _asked(self, layer: str) -> Layer:
        """The layer with all options that concern it.

        Raises: UserError if the layout or the number of tokens is invalid.
        """
        try:
            return Layer(layer, self.config.layout, self.config.call, self.config.prefix_tokens)
        except LayerError as error:
            raise UserError(str(error)) from error

    def _question(self, job: Job) -> "Question":
        from erf.gradient.ready import Question

        return Question(job.pixels, self._asked(job.layer), positions_of(self.config.position))

    def load_network(self, job: Job) -> "LoadedNetwork":
        from erf.gradient.ready import load_network

        return load_network(
            job.weights,
            self._question(job),
            device=self.device,
            precision=self.config.precision,
            plain=self.config.plain,
            cuda_graphs=self.config.cuda_graphs,
            images=self.images,
            label=job.name,
            mean=self.config.mean,
            std=self.config.std,
        )

    def compute(self, job: Job, network: "LoadedNetwork", loop: "Loop") -> "Progress":
        from erf.gradient.accumulate import accumulate

        options: dict[str, Any] = {"until": self.config.until, "keep_maps": bool(self.config.sheets)}
        return accumulate(network.ready, self.images, self._question(job), loop, **options)

    def conclude(self, job: Job, network: "LoadedNetwork", state: "Progress", loop: "Loop") -> ErfResult:
        """Build the result from the last state of the run.

        Raises: UserError if no image could be used, or the map cannot be measured.
        """
        from erf.gradient.provenance import describe_map

        about = describe_map(job, self.config, network, self.images, state, loop, command=self.command)
        provenance: FieldProvenance = {**about, "identity": self.identify(job)}
        mean, sums = state.total / len(state.sums), stack_sums(state.sums)
        maps = self._single_maps(job, network, state)
        result = ErfResult(job.name, mean, provenance, sums, state.names, maps)
        check_result(result)
        return result if self.config.until is None else self._stopped(result, self.config.until, reached=state.enough)

    def _single_maps(self, job: Job, network: "LoadedNetwork", state: "Progress") -> SingleMaps | None:
        """The maps of single images with their photographs; None if they are not kept."""
        if state.maps is None:
            return None
        part = min(1.0, _PHOTOGRAPH / max(job.pixels))
        height, width = (max(1, round(side * part)) for side in job.pixels)
        channels = network.ready.preprocessing.channels
        photographs = [self.images.thumbnail(name, (height, width), channels) for name in state.names]
        return SingleMaps(np.stack(state.maps), np.array(state.maxima), state.names, np.stack(photographs))

    def _stopped(self, result: ErfResult, until: float, *, reached: bool) -> ErfResult:
        """The result, with a record of whether `until` was reached in its provenance."""
        side = result.side(0.5)
        width = (side.high - side.low) / side
        _logger.log(
            logging.INFO if reached else logging.WARNING,
            "%s: after %d images the 95%% interval of the side that holds half of the contribution is %.2g%% of the "
            "side%s",
            result.name,
            result.num_images,
            100 * width,
            "" if reached else f", wider than {until:.3g} of it: more images are needed",
        )
        stopping: Stopping = {
            "until": until,
            "interval_width": width if math.isfinite(width) else None,
            "reached": reached,
        }
        return replace(result, provenance={**result.provenance, "stopping": stopping})

    # output

    def save_outputs(self, job: Job, outputs: ErfResult) -> None:
        save_result(outputs, self.files(job)[0])
        if outputs.maps is not None:
            save_maps(outputs.maps, maps_file(self.folder, job.name), outputs.provenance["identity"])

    def write_result(self, job: Job, outputs: ErfResult) -> ErfResult:
        from erf.figures.files import write_result

        config = self.config
        write_result(outputs, self.folder, drawing=config.drawing, formats=config.formats, sheets=config.sheets)
        save_csv(manifest_file(self.folder, job.name), self.images.list_used(outputs.image_names))
        return outputs

    # dry runs

    def begin_dry(self, device: "torch.device") -> None:
        self.begin(device)

    def preview_jobs(self, name: str, weights: str) -> list[Preview[Job]]:
        from replknet.listing import foresee_weights

        self._refuse_positions(name)
        found = foresee_weights(name, weights, seed=self.config.seed)
        unknown = "" if found.at_hand else "weights"
        return [Preview(job, found.label, unknown) for job in self.jobs_of(weights, found.weights)]

    def count_images(self, job: Job) -> int:
        return len(self.images.paths)

    def count_done(self, saved: SavedProgress) -> int:
        return saved.head["done"]

    def estimate_cost(self, job: Job, images: int) -> "Cost":
        from erf.gradient.cost import estimate_cost

        return estimate_cost(job, self._question(job), self.config, self.device, images)

    def describe_inputs(self) -> str:
        config, images = self.config, self.images
        sizes = " and ".join("{} x {}".format(*pixels_of(size)) for size in config.size)
        count = str(len(images.paths)) if config.until is None else f"at most {len(images.paths)}"
        return f"{count} images ({images.name}) at {sizes} pixels, in {config.precision} on {self.device}"

    def common_files(self, jobs: Sequence[Job]) -> list[Path]:
        return comparison_files(self.folder, self.config.formats) if len(jobs) > 1 else []

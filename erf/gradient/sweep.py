"""Asking networks for their contribution maps: which weights, which maps are there already, and the files of new ones.

torch is loaded only here and below: what is on disk is measured and drawn without it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erf.gradient.jobs import Job, describe_units, list_jobs
from erf.gradient.positions import positions_of
from erf.measures.sums import stack_sums
from erf.options import Config
from erf.results.files import (
    ErfResult,
    check_result,
    file_stem,
    finished_identity,
    load_result,
    save_result,
)
from runkit import Failures, UserError, describe_run, list_differences
from runkit.progress import discard_progress, find_progress

if TYPE_CHECKING:  # these load torch
    import torch

    from erf.gradient.accumulate import Progress
    from erf.gradient.images import ImageSet
    from erf.gradient.lean.prepare import Prepared
    from erf.gradient.theoretical import TheoreticalField
    from replknet.zoo import LoadedModel, ResolvedWeights
    from runkit.compute.ranks import World

__all__ = ["Sweep", "check_size", "measure_networks"]

_logger = logging.getLogger(__name__)
_BYTES_PER_PIXEL = 3 * (1 + 4 + 4) + 8 + 8
"""Of an image, its normalised form and gradient in three colours, its map, and the sum of maps; without a network."""


def measure_networks(config: Config, folder: Path, arguments: Sequence[str]) -> tuple[list[ErfResult], Failures]:
    """Contribution maps of all networks asked for, computed or, where they are there already, read.

    Under torchrun the ranks share the images, and rank 0 alone writes; a failing network does not stop the others.

    Returns: Results, none if all networks failed, and the networks that failed.
    Raises: UserError for what concerns all networks, or if the only one fails.
    """
    from erf.gradient.images import find_images
    from erf.gradient.precision import check_precision
    from runkit.compute.device import choose_device
    from runkit.compute.ranks import joined_world

    check_size(max(config.size))
    check_size(min(config.size))
    failures = Failures()
    asked = [(name, weights) for name in config.model for weights in config.weights]
    device = choose_device(config.device)
    check_precision(config.precision, device)
    with joined_world(device) as world:
        images = world.together(lambda: find_images(config.images, config.num_images))
        image_sha256 = world.together(images.sha256)
        sweep = Sweep(config, folder, arguments, images, image_sha256, device, world)
        resolved = [
            failures.guard(name, partial(sweep.resolve, name, weights), alone=len(asked) == 1)
            for name, weights in asked
        ]
        jobs = [job for of_network in resolved if of_network is not None for job in of_network]
        alone = len(asked) == len(jobs) == 1
        results = [failures.guard(job.name, partial(sweep.measure, job), alone=alone) for job in jobs]
    return [result for result in results if result is not None], failures


def check_size(size: int) -> None:
    """Raises: UserError if there is no feature map of such images, or no memory for a single one."""
    import torch

    from runkit.compute.memory import available_memory

    if size < 32:
        raise UserError(f"--size {size}: feature maps need at least 32 pixels")
    needed, free = size**2 * _BYTES_PER_PIXEL, available_memory(torch.device("cpu"))
    if needed > free:
        raise UserError(
            f"--size {size}: an image and its map need {needed / 1e9:,.0f} GB of memory, and {free / 1e9:,.0f} GB are "
            "free; choose a smaller --size"
        )


@dataclass(frozen=True)
class Sweep:
    """What the networks of a run have in common; its methods are called by all ranks alike."""

    config: Config
    folder: Path
    arguments: Sequence[str]
    images: "ImageSet"
    image_sha256: str
    device: "torch.device"
    world: "World"

    def resolve(self, name: str, weights: str) -> "list[Job]":
        """The maps asked for of a network with some weights: of each size and layer.

        Raises: UserError if the weights cannot be had, or if the network's files are of another configuration, so that
            this is known before the long work.
        """
        from replknet.zoo import resolve_weights

        resolved = self.world.main_first(lambda: resolve_weights(name, weights, seed=self.config.seed))
        jobs = self.list_jobs(weights, resolved)
        for job in jobs:
            self.world.check_same(self._identify(job))
            self.world.on_main(partial(self.is_finished, job))
        return jobs

    def list_jobs(self, option: str, weights: "ResolvedWeights") -> list[Job]:
        """The maps asked for of a network with the weights that the option stands for."""
        from replknet.zoo import count_feature_maps

        stages = count_feature_maps(weights.name) if "all" in self.config.layer else 0
        return list_jobs(self.config, option, weights, stages)

    def measure(self, job: Job) -> ErfResult:
        """A network's map, read if it is finished, else computed; measured, drawn and written."""
        identity, partial_path = self._identify(job), self._path(job, ".partial.npz")
        if self.world.on_main(lambda: self.is_finished(job)):
            npz = self._path(job, ".npz")
            _logger.info("%s is finished already and is kept; --overwrite computes it again", npz)
            result = self.world.on_main(lambda: load_result(npz))
        else:
            result = self._compute(job, identity, partial_path)
            self.world.on_main(lambda: save_result(result, self._path(job, ".npz")))
        self.world.on_main(lambda: self._write(result))
        self.world.on_main(lambda: discard_progress(partial_path, identity))
        return result

    def _write(self, result: ErfResult) -> None:
        from erf.figures.files import write_result

        write_result(result, self.folder, scale=self.config.scale, formats=self.config.formats)

    def _path(self, job: Job, suffix: str) -> Path:
        return self.folder / (file_stem(job.name) + suffix)

    def _identify(self, job: Job) -> dict[str, Any]:
        """What decides a result, and so whether a file is of the same configuration: device and batch size do not."""
        return {
            "model": job.weights.name,
            "weights": job.weights.record.identity,
            "images": self.image_sha256,
            "num_images": len(self.images.paths),
            "size": job.size,
            "layer": job.layer,
            "precision": self.config.precision,
            "plain": self.config.plain,
            **self._identify_position(),
        }

    def _identify_position(self) -> dict[str, Any]:
        """The position where it is not the centre; older results have no word for it."""
        position = self.config.position
        return {} if position == "centre" else {"position": position if isinstance(position, str) else list(position)}

    def is_finished(self, job: Job) -> bool:
        """Whether the finished result of this configuration is on disk.

        With `--overwrite` results are passed over, but `--resume` keeps those of this configuration: the run that it
        continues may have written them.

        Raises: UserError if there is a result of another configuration, and `--overwrite` is off.
        """
        overwrite, npz = self.config.overwrite, self._path(job, ".npz")
        if overwrite and not self.config.resume:
            return False
        try:
            finished = finished_identity(self.folder / file_stem(job.name))
            differences = list_differences(finished, self._identify(job)) if finished else []
            if differences:
                raise UserError(
                    f"{npz} is of another configuration ({'; '.join(differences)}); use --overwrite or another --output"
                )
        except UserError:
            if overwrite:
                return False
            raise
        return finished is not None

    def find_progress(self, job: Job) -> "Progress | None":
        """The state to go on from, if there is one and `--resume` is on.

        Raises: UserError as `runkit.progress.find_progress`.
        """
        from erf.gradient.accumulate import restore_state

        saved = find_progress(
            self._path(job, ".partial.npz"),
            self._identify(job),
            resume=self.config.resume,
            overwrite=self.config.overwrite,
        )
        return restore_state(saved) if saved else None

    def _compute(self, job: Job, identity: dict[str, Any], partial_path: Path) -> ErfResult:
        """The mean map over the images (on rank 0), and what made it.

        Raises: UserError if no image could be used, or the map cannot be measured.
        """
        from runkit.compute.memory import peak_memory, reset_peak_memory

        started = datetime.now(timezone.utc)
        reset_peak_memory(self.device)
        loaded, field = self.world.together(lambda: self._load(job))
        prepared, difference = self.world.together(lambda: self._prepare(job, loaded))
        progress = self._accumulate(job, loaded, prepared, identity, partial_path)
        memory = peak_memory(self.device)
        try:
            about = {**prepared.as_dict(), "precision_difference": difference, "peak_memory": memory}
            return self.world.on_main(lambda: self._as_result(job, loaded, field, progress, identity, started, about))
        except UserError:  # all images were dealt with: there is nothing to go on with
            self.world.on_main(lambda: discard_progress(partial_path, identity))
            raise

    def _load(self, job: Job) -> "tuple[LoadedModel, TheoreticalField]":
        """The network in float32, on the device; and what its units can see at most."""
        from erf.gradient.accumulate import explained
        from erf.gradient.theoretical import theoretical_field
        from replknet.zoo import load_model

        loaded = load_model(job.weights, input_size=job.size)
        with explained(job.name, (job.size, job.size)):
            field = theoretical_field(loaded.model, (job.size, job.size), layer=job.layer)
        return replace(loaded, model=loaded.model.to(device=self.device)), field

    def _prepare(self, job: Job, loaded: "LoadedModel") -> tuple["Prepared", dict[str, Any] | None]:
        """The network as it is to run, and by how much a reduced precision changes the map of the first image."""
        from erf.gradient.accumulate import first_input
        from erf.gradient.lean.prepare import prepare
        from erf.gradient.precision import is_reduced, number_type, prepare_reduced

        config, model = self.config, loaded.model
        if not is_reduced(config.precision):
            return prepare(model.to(number_type(config.precision)), layer=job.layer, plain=config.plain), None
        name, x = first_input(self.images, loaded.preprocessing, (job.size, job.size))
        prepared, difference = prepare_reduced(
            model, config.precision, x.to(self.device), layer=job.layer, plain=config.plain
        )
        relative = difference["relative_l2"]
        said = "is not finite" if relative is None else f"differs from float32 by {relative:.2%}"
        _logger.info("%s: in %s the map of %s %s", job.name, config.precision, name, said)
        return prepared, {"image": name, **difference}

    def _accumulate(
        self,
        job: Job,
        loaded: "LoadedModel",
        prepared: "Prepared",
        identity: dict[str, Any],
        partial_path: Path,
    ) -> "Progress":
        """The sum of the maps, begun anew or gone on with."""
        from erf.gradient.accumulate import accumulate, choose_batch_size, save_state
        from erf.gradient.precision import arithmetic, number_type

        config, world = self.config, self.world
        progress = world.on_main(lambda: self.find_progress(job))
        if progress:
            _logger.info("%s: going on after image %d of %d", job.name, progress.done, len(self.images.paths))
        batch_size = config.batch_size or (progress.batch_size if progress else None)
        size, dtype = (job.size, job.size), number_type(config.precision)
        with arithmetic(config.precision):
            if batch_size is None:
                batch_size = world.on_main(
                    lambda: choose_batch_size(prepared.network, size, layer=job.layer, device=self.device, dtype=dtype)
                )
            return accumulate(
                prepared.network,
                self.images,
                loaded.preprocessing,
                size=size,
                layer=job.layer,
                positions=positions_of(config.position),
                device=self.device,
                dtype=dtype,
                memory_format=prepared.memory_format,
                batch_size=batch_size,
                world=world,
                progress=progress,
                save=lambda state: save_state(state, partial_path, identity),
                label=job.name,
            )

    def _as_result(
        self,
        job: Job,
        loaded: "LoadedModel",
        field: "TheoreticalField",
        progress: "Progress",
        identity: dict[str, Any],
        started: datetime,
        about: dict[str, Any],
    ) -> ErfResult:
        import torch

        from runkit.compute.device import device_label

        config = self.config
        if not progress.sums:
            reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in progress.skipped[:3])
            raise UserError(f"{job.name}: no image could be used ({reasons})")
        provenance = {
            **describe_run(
                program="erf.visualize", arguments=self.arguments, started=started, seconds=progress.seconds
            ),
            "config": config.as_dict(),
            "identity": identity,
            "seed": config.seed,
            "device": device_label(self.device),
            "precision": config.precision,
            "plain": config.plain,
            "layer": job.layer,
            "ranks": self.world.size,
            "threads": torch.get_num_threads(),
            "batch_size": progress.batch_size,
            **about,
            "weights": loaded.record.as_dict(),
            "model_args": loaded.model_args,
            "data": {
                "name": self.images.name,
                "images_found": self.images.found,
                "images_chosen": len(self.images.paths),
                "images_used": len(progress.sums),
                "sha256": self.image_sha256,
                "size_px": [job.size, job.size],
                "mean": loaded.preprocessing.mean,
                "std": loaded.preprocessing.std,
                "interpolation": "bicubic",
            },
            "skipped": list(progress.skipped),
            **describe_units(progress.feature_size, job.size, positions_of(config.position), field),
        }
        mean = progress.total / len(progress.sums)
        result = ErfResult(job.name, mean, provenance, stack_sums(progress.sums), progress.names)
        check_result(result)
        return result

"""Asking networks for their contribution maps: which weights, which maps are there already, and the files of new ones.

torch is loaded only here and below: what is on disk is measured and drawn without it.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erf.config import Config
from erf.positions import Position, centre_pixel, positions_of, unit_at
from erf.results import ErfResult, check_result, file_stem, finished_identity, load_result, save_result, write_report
from erf.sums import stack_sums
from runkit import Failures, UserError, describe_run, list_differences
from runkit.progress import discard_progress, find_progress

if TYPE_CHECKING:  # these load torch
    import torch

    from erf.accumulate import Progress
    from erf.images import ImageSet
    from erf.theoretical import TheoreticalField
    from replknet.distributed import World
    from replknet.zoo import LoadedModel, ResolvedWeights

__all__ = ["measure_networks"]

_logger = logging.getLogger(__name__)


def measure_networks(config: Config, folder: Path, arguments: Sequence[str]) -> tuple[list[ErfResult], Failures]:
    """Contribution maps of all networks asked for, computed or, where they are there already, read.

    Under torchrun the ranks share the images, and rank 0 alone writes; a failing network does not stop the others.

    Returns: Results, none if all networks failed, and the networks that failed.
    Raises: UserError for what concerns all networks, or if the only one fails.
    """
    from erf.images import find_images
    from replknet.device import choose_device
    from replknet.distributed import joined_world

    if min(config.size) < 32:
        raise UserError(f"--size {min(config.size)}: feature maps need at least 32 pixels")
    failures = Failures()
    asked = [(name, weights) for name in config.model for weights in config.weights]
    device = choose_device(config.device)
    with joined_world(device) as world:
        images = world.together(lambda: find_images(config.images, config.num_images))
        image_sha256 = world.together(images.sha256)
        sweep = _Sweep(config, folder, arguments, images, image_sha256, device, world)
        resolved = [
            failures.guard(name, partial(sweep.resolve, name, weights), alone=len(asked) == 1)
            for name, weights in asked
        ]
        jobs = [job for of_network in resolved if of_network is not None for job in of_network]
        alone = len(asked) == len(jobs) == 1
        results = [failures.guard(job.name, partial(sweep.measure, job), alone=alone) for job in jobs]
    return [result for result in results if result is not None], failures


@dataclass(frozen=True)
class _Job:
    """One map to be made.

    Attributes:
        name: The network's; with several weights, sizes or layers also which of them: the files are called after it.
        weights: The network and its weights.
        size: Side of the images in pixels.
        layer: As for `erf.contribution.feature_map`.
    """

    name: str
    weights: "ResolvedWeights"
    size: int
    layer: str


@dataclass(frozen=True)
class _Sweep:
    """What the networks of a run have in common; its methods are called by all ranks alike."""

    config: Config
    folder: Path
    arguments: Sequence[str]
    images: "ImageSet"
    image_sha256: str
    device: "torch.device"
    world: "World"

    def resolve(self, name: str, weights: str) -> "list[_Job]":
        """The maps asked for of a network with some weights: of each size and layer.

        Raises: UserError if the weights cannot be had, or if the network's files are of another configuration, so that
            this is known before the long work.
        """
        from replknet.zoo import count_feature_maps, resolve_weights

        resolved = self.world.main_first(lambda: resolve_weights(name, weights, seed=self.config.seed))
        layers = [
            stage
            for layer in self.config.layer
            for stage in (map(str, range(count_feature_maps(name))) if layer == "all" else [layer])
        ]
        label = Path(weights).stem if len(self.config.weights) > 1 else None
        jobs = [
            _Job(
                _join_name(
                    name, label, size if len(self.config.size) > 1 else None, layer if len(layers) > 1 else None
                ),
                resolved,
                size,
                layer,
            )
            for size in self.config.size
            for layer in layers
        ]
        for job in jobs:
            self.world.check_same(self._identify(job))
            self.world.on_main(partial(self._is_finished, job))
        return jobs

    def measure(self, job: _Job) -> ErfResult:
        """A network's map, read if it is finished, else computed; measured, drawn and written."""
        identity, partial_path = self._identify(job), self._path(job, ".partial.npz")
        if self.world.on_main(lambda: self._is_finished(job)):
            npz = self._path(job, ".npz")
            _logger.info("%s is finished already and is kept; --overwrite computes it again", npz)
            result = self.world.on_main(lambda: load_result(npz))
        else:
            result = self._compute(job, identity, partial_path)
            self.world.on_main(lambda: save_result(result, self._path(job, ".npz")))
        config = self.config
        self.world.on_main(lambda: write_report(result, self.folder, scale=config.scale, formats=config.formats))
        self.world.on_main(lambda: discard_progress(partial_path, identity))
        return result

    def _path(self, job: _Job, suffix: str) -> Path:
        return self.folder / (file_stem(job.name) + suffix)

    def _identify(self, job: _Job) -> dict[str, Any]:
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

    def _is_finished(self, job: _Job) -> bool:
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

    def _compute(self, job: _Job, identity: dict[str, Any], partial_path: Path) -> ErfResult:
        """The mean map over the images (on rank 0), and what made it.

        Raises: UserError if no image could be used, or the map cannot be measured.
        """
        from replknet.memory import peak_memory, reset_peak_memory

        started = datetime.now(timezone.utc)
        reset_peak_memory(self.device)
        loaded, field = self.world.together(lambda: self._load(job))
        progress = self._accumulate(job, loaded, identity, partial_path)
        memory = peak_memory(self.device)
        try:
            return self.world.on_main(lambda: self._as_result(job, loaded, field, progress, identity, started, memory))
        except UserError:  # all images were dealt with: there is nothing to go on with
            self.world.on_main(lambda: discard_progress(partial_path, identity))
            raise

    def _load(self, job: _Job) -> "tuple[LoadedModel, TheoreticalField]":
        """The network, on the device; and what its units can see at most."""
        import torch

        from erf.contribution import LayerError
        from erf.theoretical import theoretical_field
        from replknet.zoo import load_model

        loaded = load_model(job.weights, input_size=job.size)
        try:
            field = theoretical_field(loaded.model, (job.size, job.size), layer=job.layer)
        except LayerError as error:
            raise UserError(f"{job.name}: {error}") from error
        model = loaded.model.to(device=self.device, dtype=getattr(torch, self.config.precision))
        return replace(loaded, model=model), field

    def _accumulate(self, job: _Job, loaded: "LoadedModel", identity: dict[str, Any], partial_path: Path) -> "Progress":
        """The sum of the maps, begun anew or gone on with."""
        import torch

        from erf.accumulate import accumulate, choose_batch_size, restore_state, save_state
        from erf.prepare import prepare
        from replknet.device import exact_float32

        config, world = self.config, self.world
        saved = world.on_main(
            lambda: find_progress(partial_path, identity, resume=config.resume, overwrite=config.overwrite)
        )
        progress = restore_state(saved) if saved else None
        if progress:
            _logger.info("%s: going on after image %d of %d", job.name, progress.done, len(self.images.paths))
        batch_size = config.batch_size or (progress.batch_size if progress else None)
        size, dtype = (job.size, job.size), getattr(torch, config.precision)
        network, memory_format = prepare(loaded.model, layer=job.layer, plain=config.plain)
        with exact_float32():
            if batch_size is None:
                batch_size = world.on_main(
                    lambda: choose_batch_size(network, size, layer=job.layer, device=self.device, dtype=dtype)
                )
            return accumulate(
                network,
                self.images,
                loaded.preprocessing,
                size=size,
                layer=job.layer,
                positions=positions_of(config.position),
                device=self.device,
                dtype=dtype,
                memory_format=memory_format,
                batch_size=batch_size,
                world=world,
                progress=progress,
                save=lambda state: save_state(state, partial_path, identity),
                label=job.name,
            )

    def _as_result(
        self,
        job: _Job,
        loaded: "LoadedModel",
        field: "TheoreticalField",
        progress: "Progress",
        identity: dict[str, Any],
        started: datetime,
        memory: dict[str, int | None],
    ) -> ErfResult:
        import torch

        from replknet.device import device_label

        config = self.config
        if not progress.sums:
            reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in progress.skipped[:3])
            raise UserError(f"{job.name}: no image could be used ({reasons})")
        provenance = {
            **describe_run(
                program="erf.visualize", arguments=self.arguments, started=started, seconds=progress.seconds
            ),
            "config": asdict(config),
            "identity": identity,
            "seed": config.seed,
            "device": device_label(self.device),
            "precision": config.precision,
            "plain": config.plain,
            "layer": job.layer,
            "ranks": self.world.size,
            "threads": torch.get_num_threads(),
            "batch_size": progress.batch_size,
            "peak_memory": memory,
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
            **_describe_units(progress.feature_size, job.size, positions_of(config.position), field),
        }
        mean = progress.total / len(progress.sums)
        result = ErfResult(job.name, mean, provenance, stack_sums(progress.sums), progress.names)
        check_result(result)
        return result


def _describe_units(
    feature_size: tuple[int, int] | None, size: int, positions: Sequence[Position], field: "TheoreticalField"
) -> dict[str, Any]:
    """Which units were asked, which pixels they lie over and can see, and which pixel squares lie round.

    In a map of odd size the middle unit lies round the image's centre, else right below it.
    """
    if feature_size is None:
        raise AssertionError("a run that used an image knows its feature map")
    units = [unit_at(position, feature_size) for position in positions]
    alone = units[0] if len(units) == 1 else None
    return {
        "unit": {
            "feature_map": list(feature_size),
            "indices": [list(unit) for unit in units],
            "covers_px": alone
            and [[i * size // n, (i + 1) * size // n - 1] for i, n in zip(alone, feature_size, strict=True)],
            "centre_px": list(centre_pixel(positions[0], feature_size, (size, size))) if alone else [size // 2] * 2,
        },
        "theoretical_field": {
            "side_px": field.side_px,
            "stride_px": field.stride_px,
            "covers_px": field.covers(alone) if alone else None,
            "reason": field.reason,
        },
    }


def _join_name(network: str, weights: str | None, size: int | None, layer: str | None) -> str:
    """The network's name, and of the rest what tells apart the maps of one run."""
    parts = [network, weights, f"size-{size}" if size else None, f"layer-{layer}" if layer else None]
    return ".".join(part for part in parts if part)

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
from erf.results import ErfResult, check_result, file_stem, finished_identity, load_result, save_result, write_report
from erf.sums import stack_sums
from runkit import Failures, UserError, describe_run, list_differences
from runkit.progress import discard_progress, find_progress

if TYPE_CHECKING:  # these load torch
    import torch

    from erf.accumulate import Progress
    from erf.images import ImageSet
    from erf.prepare import Prepared
    from replknet.distributed import World
    from replknet.zoo import LoadedModel, ResolvedWeights

__all__ = ["measure_networks"]

_logger = logging.getLogger(__name__)
_BYTES_PER_PIXEL = 3 * (1 + 4 + 4) + 8 + 8
"""Of an image, its normalised form and gradient in three colours, its map, and the sum of maps; without a network."""


def measure_networks(config: Config, folder: Path, arguments: Sequence[str]) -> tuple[list[ErfResult], Failures]:
    """Contribution maps of all networks asked for, computed or, where they are there already, read.

    Under torchrun the ranks share the images, and rank 0 alone writes; a failing network does not stop the others.

    Returns: Results, none if all networks failed, and the networks that failed.
    Raises: UserError for what concerns all networks, or if the only one fails.
    """
    from erf.images import find_images
    from erf.precision import check_precision
    from replknet.device import choose_device
    from replknet.distributed import joined_world

    _check_size(config.size)
    failures = Failures()
    alone = len(config.model) == 1
    device = choose_device(config.device)
    check_precision(config.precision, device)
    with joined_world(device) as world:
        images = world.together(lambda: find_images(config.images, config.num_images))
        image_sha256 = world.together(images.sha256)
        sweep = _Sweep(config, folder, arguments, images, image_sha256, device, world)
        resolved = [failures.guard(name, partial(sweep.resolve, name), alone=alone) for name in config.model]
        results = [
            failures.guard(weights.name, partial(sweep.measure, weights), alone=alone)
            for weights in resolved
            if weights is not None
        ]
    return [result for result in results if result is not None], failures


def _check_size(size: int) -> None:
    """Raises: UserError if there is no feature map of such images, or no memory for a single one."""
    import torch

    from replknet.memory import available_memory

    if size < 32:
        raise UserError(f"--size {size}: feature maps need at least 32 pixels")
    needed, free = size**2 * _BYTES_PER_PIXEL, available_memory(torch.device("cpu"))
    if needed > free:
        raise UserError(
            f"--size {size}: an image and its map need {needed / 1e9:,.0f} GB of memory, and {free / 1e9:,.0f} GB are "
            "free; choose a smaller --size"
        )


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

    def resolve(self, name: str) -> "ResolvedWeights":
        """A network's weights.

        Raises: UserError if they cannot be had, or if the network's files are of another configuration, so that this
            is known before the long work.
        """
        from replknet.zoo import resolve_weights

        weights = self.world.main_first(lambda: resolve_weights(name, self.config.weights, seed=self.config.seed))
        self.world.check_same(self._identify(weights))
        self.world.on_main(lambda: self._is_finished(weights))
        return weights

    def measure(self, weights: "ResolvedWeights") -> ErfResult:
        """A network's map, read if it is finished, else computed; measured, drawn and written."""
        identity, partial_path = self._identify(weights), self._path(weights, ".partial.npz")
        if self.world.on_main(lambda: self._is_finished(weights)):
            npz = self._path(weights, ".npz")
            _logger.info("%s is finished already and is kept; --overwrite computes it again", npz)
            result = self.world.on_main(lambda: load_result(npz))
        else:
            result = self._compute(weights, identity, partial_path)
            self.world.on_main(lambda: save_result(result, self._path(weights, ".npz")))
        config = self.config
        self.world.on_main(lambda: write_report(result, self.folder, scale=config.scale, formats=config.formats))
        self.world.on_main(lambda: discard_progress(partial_path, identity))
        return result

    def _path(self, weights: "ResolvedWeights", suffix: str) -> Path:
        return self.folder / (file_stem(weights.name) + suffix)

    def _identify(self, weights: "ResolvedWeights") -> dict[str, Any]:
        """What decides a result, and so whether a file is of the same configuration: device and batch size do not."""
        return {
            "model": weights.name,
            "weights": weights.record.identity,
            "images": self.image_sha256,
            "num_images": len(self.images.paths),
            "size": self.config.size,
            "layer": self.config.layer,
            "precision": self.config.precision,
            "plain": self.config.plain,
        }

    def _is_finished(self, weights: "ResolvedWeights") -> bool:
        """Whether the finished result of this configuration is on disk.

        With `--overwrite` results are passed over, but `--resume` keeps those of this configuration: the run that it
        continues may have written them.

        Raises: UserError if there is a result of another configuration, and `--overwrite` is off.
        """
        overwrite, npz = self.config.overwrite, self._path(weights, ".npz")
        if overwrite and not self.config.resume:
            return False
        try:
            finished = finished_identity(self.folder / file_stem(weights.name))
            differences = list_differences(finished, self._identify(weights)) if finished else []
            if differences:
                raise UserError(
                    f"{npz} is of another configuration ({'; '.join(differences)}); use --overwrite or another --output"
                )
        except UserError:
            if overwrite:
                return False
            raise
        return finished is not None

    def _compute(self, weights: "ResolvedWeights", identity: dict[str, Any], partial_path: Path) -> ErfResult:
        """The mean map over the images (on rank 0), and what made it.

        Raises: UserError if no image could be used, or the map cannot be measured.
        """
        from replknet.memory import peak_memory, reset_peak_memory

        started = datetime.now(timezone.utc)
        reset_peak_memory(self.device)
        loaded = self.world.together(lambda: self._load(weights))
        prepared, difference = self.world.together(lambda: self._prepare(loaded))
        progress = self._accumulate(weights, loaded, prepared, identity, partial_path)
        memory = peak_memory(self.device)
        try:
            about = {"precision_difference": difference, "peak_memory": memory}
            return self.world.on_main(lambda: self._as_result(weights, loaded, progress, identity, started, about))
        except UserError:  # all images were dealt with: there is nothing to go on with
            self.world.on_main(lambda: discard_progress(partial_path, identity))
            raise

    def _load(self, weights: "ResolvedWeights") -> "LoadedModel":
        """The network in float32, on the device."""
        from replknet.zoo import load_model

        loaded = load_model(weights, input_size=self.config.size)
        return replace(loaded, model=loaded.model.to(device=self.device))

    def _prepare(self, loaded: "LoadedModel") -> tuple["Prepared", dict[str, Any] | None]:
        """The network as it is to run, and by how much a reduced precision changes the map of the first image."""
        from erf.accumulate import first_input
        from erf.contribution import LayerError
        from erf.precision import is_reduced, number_type, prepare_reduced
        from erf.prepare import prepare

        config, model = self.config, loaded.model
        if not is_reduced(config.precision):
            return prepare(model.to(number_type(config.precision)), layer=config.layer, plain=config.plain), None
        name, x = first_input(self.images, loaded.preprocessing, (config.size, config.size))
        try:
            prepared, difference = prepare_reduced(
                model, config.precision, x.to(self.device), layer=config.layer, plain=config.plain
            )
        except LayerError as error:
            raise UserError(f"{loaded.record.model}: {error}") from error
        relative = difference["relative_l2"]
        said = "is not finite" if relative is None else f"differs from float32 by {relative:.2%}"
        _logger.info("%s: in %s the map of %s %s", loaded.record.model, config.precision, name, said)
        return prepared, {"image": name, **difference}

    def _accumulate(
        self,
        weights: "ResolvedWeights",
        loaded: "LoadedModel",
        prepared: "Prepared",
        identity: dict[str, Any],
        partial_path: Path,
    ) -> "Progress":
        """The sum of the maps, begun anew or gone on with."""
        from erf.accumulate import accumulate, choose_batch_size, restore_state, save_state
        from erf.precision import arithmetic, number_type

        config, world = self.config, self.world
        saved = world.on_main(
            lambda: find_progress(partial_path, identity, resume=config.resume, overwrite=config.overwrite)
        )
        progress = restore_state(saved) if saved else None
        if progress:
            _logger.info("%s: going on after image %d of %d", weights.name, progress.done, len(self.images.paths))
        batch_size = config.batch_size or (progress.batch_size if progress else None)
        size, dtype = (config.size, config.size), number_type(config.precision)
        with arithmetic(config.precision):
            if batch_size is None:
                batch_size = world.on_main(
                    lambda: choose_batch_size(
                        prepared.network, size, layer=config.layer, device=self.device, dtype=dtype
                    )
                )
            return accumulate(
                prepared.network,
                self.images,
                loaded.preprocessing,
                size=size,
                layer=config.layer,
                device=self.device,
                dtype=dtype,
                memory_format=prepared.memory_format,
                batch_size=batch_size,
                world=world,
                progress=progress,
                save=lambda state: save_state(state, partial_path, identity),
                label=weights.name,
            )

    def _as_result(
        self,
        weights: "ResolvedWeights",
        loaded: "LoadedModel",
        progress: "Progress",
        identity: dict[str, Any],
        started: datetime,
        about: dict[str, Any],
    ) -> ErfResult:
        import torch

        from replknet.device import device_label

        config = self.config
        if not progress.sums:
            reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in progress.skipped[:3])
            raise UserError(f"{weights.name}: no image could be used ({reasons})")
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
            "layer": config.layer,
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
                "size_px": [config.size, config.size],
                "mean": loaded.preprocessing.mean,
                "std": loaded.preprocessing.std,
                "interpolation": "bicubic",
            },
            "skipped": list(progress.skipped),
            "unit": _unit(progress.feature_size, config.size),
        }
        mean = progress.total / len(progress.sums)
        result = ErfResult(weights.name, mean, provenance, stack_sums(progress.sums), progress.names)
        check_result(result)
        return result


def _unit(feature_size: tuple[int, int] | None, size: int) -> dict[str, Any]:
    """Which unit was taken, and which pixels it lies over; in a map of odd size these lie round the image's centre."""
    if feature_size is None:
        raise AssertionError("a run that used an image knows its feature map")
    index = [side // 2 for side in feature_size]
    covers = [[i * size // side, (i + 1) * size // side - 1] for i, side in zip(index, feature_size, strict=True)]
    odd = any(side % 2 for side in feature_size)
    where = "the middle unit" if odd else "the unit right below the middle"
    return {
        "feature_map": list(feature_size),
        "index": index,
        "covers_px": covers,
        "note": f"{where} of the feature map; squares are centred on pixel {[size // 2] * 2} of the input",
    }

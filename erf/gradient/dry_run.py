"""What `--dry-run` tells: which maps would be made, at what cost, and which files would be written."""

import logging
from functools import partial
from pathlib import Path

import torch

from erf.gradient.accumulate import explained
from erf.gradient.contribution import central_gradients, feature_map
from erf.gradient.images import find_images
from erf.gradient.jobs import Job
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.prepare import Prepared, prepare
from erf.gradient.positions import positions_of
from erf.gradient.precision import arithmetic, check_precision, number_type
from erf.gradient.sweep import Sweep, check_size
from erf.options import Config
from erf.results.files import result_files
from erf.results.tables import comparison_files
from replknet.listing import SOURCES, find_source
from replknet.zoo import ResolvedWeights, WeightsRecord, load_model, resolve_weights
from runkit import Failures, UserError
from runkit.compute.device import choose_device
from runkit.compute.memory import available_memory
from runkit.compute.probe import Probe, count_macs, extrapolate, probe
from runkit.compute.ranks import World
from runkit.dry_run import Estimate, Plan, PlannedRun

__all__ = ["plan_networks"]

_logger = logging.getLogger(__name__)
_SMALLEST_PROBE_PX = 64


def plan_networks(config: Config, folder: Path) -> tuple[Plan, Failures]:
    """What `erf.gradient.sweep.measure_networks` would do; nothing is downloaded or written.

    Raises: UserError for what the run would end with.
    """
    check_size(max(config.size))
    check_size(min(config.size))
    device = choose_device(config.device)
    check_precision(config.precision, device)
    images = find_images(config.images, config.num_images)
    sweep = Sweep(config, folder, (), images, images.sha256(), device, World())
    failures = Failures()
    asked = [(name, weights) for name in config.model for weights in config.weights]
    listed = [
        failures.guard(name, partial(_list_jobs, sweep, name, weights), alone=len(asked) == 1)
        for name, weights in asked
    ]
    jobs = [job for of_network in listed if of_network is not None for job in of_network]
    alone = len(asked) == len(jobs) == 1
    runs = [failures.guard(job.name, partial(_plan, sweep, job), alone=alone) for job in jobs]
    sizes = " and ".join(f"{size} x {size}" for size in config.size)
    plan = Plan(
        program="erf.visualize",
        what=f"{len(images.paths)} images ({images.name}) at {sizes} pixels, in {config.precision} on {device}",
        basis="from runs with one image at a half and a quarter of the side, by multiplications and pixels",
        runs=[run for run in runs if run is not None],
        files=comparison_files(folder, config.formats) if len(jobs) > 1 else [],
        free_bytes=available_memory(device),
        failed=failures.reasons,
    )
    return plan, failures


def _list_jobs(sweep: Sweep, name: str, weights: str) -> list[Job]:
    """As `Sweep.resolve`, but weights that would be downloaded stay unknown."""
    if find_source(name, weights) == "download":
        return sweep.list_jobs(weights, ResolvedWeights(name, WeightsRecord(name, "download"), None))
    return sweep.list_jobs(weights, resolve_weights(name, weights, seed=sweep.config.seed))


def _plan(sweep: Sweep, job: Job) -> PlannedRun:
    """Raises: UserError if the run would be refused."""
    record, files = job.weights.record, tuple(result_files(sweep.folder, job.name, sweep.config.formats))
    if record.source == "download":
        there = files[0].exists() and not sweep.config.overwrite
        state = "compute; what is there is kept if it is of these weights" if there else "compute"
        return PlannedRun(job.name, SOURCES["download"], state, files, _estimate(sweep, job, len(sweep.images.paths)))
    weights = record.label if record.random or record.source == "file" else SOURCES[record.source]
    if sweep.is_finished(job):
        return PlannedRun(job.name, weights, "finished: keep", files)
    progress = sweep.find_progress(job)
    done, count = progress.done if progress else 0, len(sweep.images.paths)
    state = f"continue after image {done} of {count}" if done else "compute"
    return PlannedRun(job.name, weights, state, files, _estimate(sweep, job, count - done))


def _estimate(sweep: Sweep, job: Job, images: int) -> Estimate:
    """The cost of a number of images, from runs of the untrained network at small sizes."""
    bench, config = _Bench(sweep, job), sweep.config
    batch_size = config.batch_size or 1
    macs = bench.count(job.size)
    probes: list[Probe] = []
    for size in _probe_sizes(job.size):
        try:
            probes.append(bench.run(size))
        except UserError:
            if size == job.size:
                raise
            _logger.debug("%s takes no images of %d pixels", job.name, size)
        if len(probes) == 2:
            break
    whole = extrapolate(probes, macs=batch_size * macs, pixels=batch_size * job.size**2)
    return Estimate(bench.parameters, macs, whole.seconds * images / batch_size, whole.peak_bytes)


def _probe_sizes(size: int) -> list[int]:
    """A quarter, a half and the whole of the side, as far as they are whole numbers and not too small."""
    parts = [size // part for part in (4, 2) if size % part == 0 and size // part >= _SMALLEST_PROBE_PX]
    return [*parts, size]


class _Bench:
    """An untrained network of a job, made ready as for the run, for images of any size."""

    def __init__(self, sweep: Sweep, job: Job):
        self._sweep, self._job = sweep, job
        self._dtype = number_type(sweep.config.precision)
        self._size = job.size
        self._model, self._prepared, self._fixed = self._build(job.size)
        self.parameters = sum(parameter.numel() for parameter in self._model.parameters())

    def _build(self, size: int) -> tuple[torch.nn.Module, Prepared, bool]:
        loaded = load_model(self._job.weights.name, "random", input_size=size)
        model = loaded.model.to(device=self._sweep.device, dtype=self._dtype)
        prepared = prepare(model, layer=self._job.layer, plain=self._sweep.config.plain)
        return model, prepared, bool(loaded.model_args)

    def _at(self, size: int) -> tuple[torch.nn.Module, Prepared]:
        """The network for a size: another one where the input size is fixed."""
        if self._fixed and size != self._size:
            self._model, self._prepared, _ = self._build(size)
            self._size = size
        return self._model, self._prepared

    def count(self, size: int) -> int:
        """Multiply-accumulates of one image, up to the layer."""
        model, _ = self._at(size)

        def forward() -> None:
            x = torch.empty(1, 3, size, size, device=self._sweep.device, dtype=self._dtype)
            feature_map(model, x, layer=self._job.layer)

        with explained(self._job.name, (size, size)):
            return count_macs(forward)

    def run(self, size: int) -> Probe:
        """Time and memory of a black image's map."""
        macs = self.count(size)
        _, prepared = self._at(size)
        config, device = self._sweep.config, self._sweep.device
        x = torch.zeros(1, 3, size, size, device=device, dtype=self._dtype)
        x = x.contiguous(memory_format=prepared.memory_format)

        def work() -> None:
            for position in positions_of(config.position):
                central_gradients(prepared.network, x, layer=self._job.layer, position=position)

        with explained(self._job.name, (size, size)), arithmetic(config.precision):
            if isinstance(prepared.network, FastForm):  # once a run, so no part of the time of an image
                for position in positions_of(config.position):
                    prepared.network.choose(x, position)
            return probe(work, device, macs=macs, pixels=size * size)

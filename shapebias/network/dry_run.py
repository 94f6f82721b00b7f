"""What `--dry-run` tells: which networks would be asked, at what cost, and which files would be written."""

from functools import partial
from pathlib import Path

import torch

from replknet.listing import SOURCES, find_source
from replknet.zoo import resolve_weights
from runkit import Failures
from runkit.compute.device import choose_device
from runkit.compute.memory import available_memory
from runkit.compute.probe import count_macs, extrapolate, probe
from runkit.compute.ranks import World
from runkit.dry_run import Estimate, Plan, PlannedRun
from shapebias.network.inference import StimulusReader, ask_black, default_batch_size
from shapebias.network.sweep import Sweep
from shapebias.options import RunConfig
from shapebias.results.comparison import comparison_files
from shapebias.results.files import ResultFolder
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.images import Stimuli, stimuli_at_hand

__all__ = ["plan_networks"]

_PROBE_IMAGES = (1, 4)  # that go through the network together


def plan_networks(config: RunConfig, folder: ResultFolder) -> tuple[Plan, Failures]:
    """What `shapebias.network.sweep.measure_networks` would do; nothing is downloaded or written.

    Raises: UserError for what the run would end with.
    """
    failures = Failures()
    alone = len(config.models) == 1
    device = choose_device(config.device)
    stimuli = stimuli_at_hand(config.stimuli, config.experiment)
    sweep = Sweep(config, folder, stimuli or Stimuli(Path(), (), config.experiment), device, World(), StimulusReader())
    runs = [failures.guard(name, partial(_plan, sweep, name), alone=alone) for name in config.models]
    count = _count(sweep)
    where = f"in {stimuli.folder}" if stimuli else "that would be downloaded"
    plan = Plan(
        program="shapebias.run",
        what=f"{count} {config.experiment.what} {where}, in {config.precision} on {device}",
        runs=[run for run in runs if run is not None],
        files=comparison_files(folder, config.formats),
        basis="from runs with {} image and with {} images together, by their number".format(*_PROBE_IMAGES),
        free_bytes=available_memory(device),
        failed=failures.reasons,
    )
    return plan, failures


def _count(sweep: Sweep) -> int:
    """How many images there are, or will be."""
    return len(sweep.stimuli) or len(CATEGORIES) * sweep.config.experiment.images_per_category


def _plan(sweep: Sweep, name: str) -> PlannedRun:
    """Raises: UserError if the run would be refused."""
    files, source, config = tuple(sweep.folder.files_of(name)), find_source(name, sweep.config.weights), sweep.config
    if source is None and config.weights == "auto":
        return PlannedRun(name, SOURCES[None], "leave out", ())
    if source == "download" or not sweep.stimuli:
        there = files[0].exists() and not config.overwrite
        state = "ask; what is there is kept if it is of these weights and images" if there else "ask"
        return PlannedRun(name, SOURCES.get(source, "random"), state, files, _estimate(sweep, name, _count(sweep)))
    weights = resolve_weights(name, config.weights, seed=config.seed)
    record = weights.record
    said = record.label if record.random or record.source == "file" else SOURCES[record.source]
    if sweep.is_finished(weights):
        return PlannedRun(name, said, "finished: keep", files)
    if sweep.has_probabilities(weights):
        return PlannedRun(name, said, "measure what it said", files)
    progress = sweep.find_progress(weights)
    done = len(progress.arrays["probabilities"]) if progress else 0
    state = f"continue after image {done} of {_count(sweep)}" if done else "ask"
    return PlannedRun(name, said, state, files, _estimate(sweep, name, _count(sweep) - done))


def _estimate(sweep: Sweep, name: str, images: int) -> Estimate:
    """The cost of asking about a number of images, from batches of black ones to the untrained network."""
    sweep.refuse_precision()
    loaded, preprocessing = sweep.load(resolve_weights(name, "random"))
    dtype, device = getattr(torch, sweep.config.precision), sweep.device
    model, (height, width) = loaded.model.to(dtype), preprocessing.input_size
    macs = count_macs(lambda: model(torch.empty(1, 3, height, width, device=device, dtype=dtype)))
    probes = [
        probe(
            partial(ask_black, model, count, preprocessing, device, name),
            device,
            macs=count * macs,
            pixels=count * height * width,
        )
        for count in _PROBE_IMAGES
    ]
    batch_size = sweep.config.batch_size or default_batch_size(device)
    batch = extrapolate(probes, macs=batch_size * macs, pixels=batch_size * height * width)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Estimate(parameters, macs, batch.seconds * images / batch_size, batch.peak_bytes)

"""Estimates of the time and memory for contribution maps of a network, from runs at small sizes."""

import logging
from dataclasses import replace

import torch

from erf.gradient.central import central_gradients, choose_form
from erf.gradient.jobs import Job
from erf.gradient.layers.find import output_of_layer
from erf.gradient.lean.prepare import prepare
from erf.gradient.precision import arithmetic, number_type
from erf.gradient.ready import Question, ReadyNetwork, explained
from erf.options import Config
from replknet.zoo import for_trial, load_model
from runkit import UserError
from runkit.compute.probe import Probe, count_macs, extrapolate, probe
from runkit.dry_run import Cost

__all__ = ["estimate_cost"]

_logger = logging.getLogger(__name__)
_SMALLEST_PROBE_PX = 64
Pixels = tuple[int, int]  # height, width


def estimate_cost(job: Job, question: Question, config: Config, device: torch.device, images: int) -> Cost:
    """Estimate the cost of a number of images from runs of the untrained network at small sizes.

    Raises: UserError if the network has no such layer or does not take images of the job's size.
    """
    bench = _Bench(job, question, config, device)
    batch_size = config.batch_size or 1
    macs = bench.count(job.pixels)
    probes: list[Probe] = []
    for size in _probe_sizes(job.pixels):
        try:
            probes.append(bench.run(size))
        except UserError:
            if size == job.pixels:
                raise
            _logger.debug("%s takes no images of %d x %d pixels", job.name, *size)
        if len(probes) == 2:
            break
    whole = extrapolate(probes, macs=batch_size * macs, pixels=batch_size * job.pixels[0] * job.pixels[1])
    return Cost(bench.parameters, macs, whole.seconds * images / batch_size, whole.peak_bytes)


def _probe_sizes(size: Pixels) -> list[Pixels]:
    """A quarter, a half and the whole of both sides, where these are whole numbers and not too small."""
    height, width = size
    parts = [
        (height // part, width // part)
        for part in (4, 2)
        if height % part == width % part == 0 and min(size) // part >= _SMALLEST_PROBE_PX
    ]
    return [*parts, size]


class _Bench:
    """The untrained network of a job, prepared as for the real run, for images of any size."""

    def __init__(self, job: Job, question: Question, config: Config, device: torch.device):
        self._job, self._question, self._config, self._device = job, question, config, device
        self._build(job.pixels)

    def _build(self, size: Pixels) -> None:
        precision = self._config.precision
        loaded = load_model(for_trial(self._job.weights), input_size=size)
        model = loaded.model.to(device=self._device, dtype=number_type(precision))
        self.parameters = sum(parameter.numel() for parameter in model.parameters())  # preparing may merge some
        plain, cuda_graphs = self._config.plain, self._config.cuda_graphs
        prepared = prepare(model, layer=self._question.layer, plain=plain, cuda_graphs=cuda_graphs)
        self._ready = ReadyNetwork(prepared, loaded.preprocessing, self._device, precision, self._job.name)
        self._model, self._size, self._fixed = model, size, bool(loaded.model_args)

    def _at(self, size: Pixels) -> tuple[torch.nn.Module, ReadyNetwork, Question]:
        """The network and the question for a size; a new network is built where its input size is fixed."""
        if self._fixed and size != self._size:
            self._build(size)
        return self._model, self._ready, replace(self._question, size=size)

    def count(self, size: Pixels) -> int:
        """Multiply-accumulate operations for one image, up to the layer."""
        model, ready, question = self._at(size)

        def forward() -> None:
            x = torch.empty(
                1, ready.preprocessing.channels, *size, device=self._device, dtype=number_type(ready.precision)
            )
            output_of_layer(model, x, question.layer)

        with explained(ready.label, question.size):
            return count_macs(forward)

    def run(self, size: Pixels) -> Probe:
        """Time and memory of computing the map of a black image."""
        macs = self.count(size)
        _, ready, question = self._at(size)
        x = torch.zeros(1, ready.preprocessing.channels, *size, device=self._device, dtype=number_type(ready.precision))
        x = x.contiguous(memory_format=ready.prepared.memory_format)

        def work() -> None:
            for position in question.positions:
                central_gradients(ready.network, x, layer=question.layer, position=position)

        with explained(ready.label, question.size), arithmetic(ready.precision):
            for position in question.positions:  # happens once per run, so it does not count as time per image
                choose_form(ready.network, x, layer=question.layer, position=position)
            return probe(work, self._device, macs=macs, pixels=size[0] * size[1])

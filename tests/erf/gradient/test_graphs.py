"""Recorded operations that are replayed give the maps of the network.

On a computer without a GPU, an emulation stands in for the CUDA graph. Like a graph, it reads its images from one
tensor and writes its results to two, whose addresses stay the same.
"""

import logging

import pytest
import timm
import torch
from torch import nn

from erf.gradient.central import central_gradients
from erf.gradient.graphs import CannotRecord, CudaGraphs, RecordedNetwork
from erf.gradient.layers.layer import as_layer
from erf.gradient.lean.prepare import prepare
from erf.gradient.plain import PlainNetwork
from erf.gradient.positions import CENTRE, Position
from erf.visualize import main

without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CORNER = Position(0.25, 0.75)


class Emulation:
    """Records like `CudaGraphs`, on a CPU: a replay computes again, into the same tensors."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, compute, images):
        self.recorded += 1
        static = images.clone()
        outputs = [x.clone() for x in compute(static)]

        def replay(images):
            self.replayed += 1
            static.copy_(images)
            for output, value in zip(outputs, compute(static), strict=True):
                output.copy_(value)
            return tuple(output.clone() for output in outputs)

        return replay


def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet").eval()


def recorded(model, record, layer="last"):
    return RecordedNetwork(PlainNetwork(model, as_layer(layer)), record)


def images(count=1, side=64, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_first_images_run_the_second_are_recorded_and_all_later_ones_replayed():
    model, record = network(), Emulation()
    form = recorded(model, record)
    maps = []
    for number in range(5):
        gradient, size = form.central_gradient(images(seed=number))
        expected, expected_size = PlainNetwork(model, as_layer("last")).central_gradient(images(seed=number))
        assert torch.equal(gradient, expected)
        assert size == expected_size
        assert (record.recorded, record.replayed) == (int(number > 0), number)
        maps.append((gradient, gradient.clone()))
    assert all(torch.equal(gradient, kept) for gradient, kept in maps)  # no later replay has overwritten one


def test_each_shape_type_memory_format_and_position_has_its_own_recording():
    model, record = network(), Emulation()
    form = recorded(model, record)
    kinds = [
        (images(), CENTRE),
        (images(2), CENTRE),
        (images(side=96), CENTRE),
        (images(2).contiguous(memory_format=torch.channels_last), CENTRE),
        (images(), CORNER),
    ]
    for turn in range(3):
        for x, position in kinds:
            gradient, _ = form.central_gradient(x + turn, position)
            expected, _ = PlainNetwork(model, as_layer("last")).central_gradient(x + turn, position)
            assert torch.equal(gradient, expected)
    assert (record.recorded, record.replayed) == (len(kinds), 2 * len(kinds))


def test_only_the_latest_recordings_are_kept(monkeypatch):
    monkeypatch.setattr("erf.gradient.graphs._MOST_RECORDINGS", 2)
    record = Emulation()
    form = recorded(network(), record)
    for side in (64, 96, 128):
        form.central_gradient(images(side=side))
    form.central_gradient(images(side=64))  # has been dropped
    assert record.recorded == 0
    form.central_gradient(images(side=64))
    assert record.recorded == 1


def test_new_weights_written_into_the_same_tensors_count_in_replays():
    model = network()
    form = recorded(model, Emulation())
    for _ in range(3):
        form.central_gradient(images())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    gradient, _ = form.central_gradient(images())
    expected, _ = PlainNetwork(model, as_layer("last")).central_gradient(images())
    assert torch.equal(gradient, expected)


def test_a_replayed_unit_that_is_not_finite_spoils_its_image_only():
    form = recorded(network(), Emulation())
    x = images(2)
    for _ in range(3):
        form.central_gradient(x)
    x[1] = float("inf")
    gradient, _ = form.central_gradient(x)
    assert gradient[0].isfinite().all()
    assert gradient[1].isnan().all()


def test_a_network_that_cannot_be_recorded_runs_as_usual_and_is_warned_of_once(caplog):
    calls = []

    def refuse(compute, x):
        calls.append(x)
        raise CannotRecord("operation not permitted when stream is capturing")

    model = network()
    form = recorded(model, refuse)
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            gradient, _ = form.central_gradient(images(seed=number))
            expected, _ = PlainNetwork(model, as_layer("last")).central_gradient(images(seed=number))
            assert torch.equal(gradient, expected)
    assert len(calls) == 1
    assert len(caplog.records) == 1
    assert "not permitted" in caplog.text
    assert "not permitted" in form.reason


def test_images_normalised_by_their_batch_are_not_recorded_together():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    record = Emulation()
    form = recorded(model, record, "1")
    for _ in range(3):
        form.central_gradient(images(2))
    assert record.recorded == 0


def test_prepared_networks_are_recorded_on_a_gpu_only():
    prepared = prepare(network(), cuda_graphs=True)
    x = images()
    assert torch.equal(
        central_gradients(prepared.network, x).maps, central_gradients(prepare(network()).network, x).maps
    )
    assert not isinstance(prepared.network.choose(x, CENTRE), RecordedNetwork)


def test_the_command_refuses_graphs_without_a_gpu_and_with_plain(tmp_path, capsys):
    common = ["--model", "test_resnet", "--weights", "random", "--size", "64", "--output", str(tmp_path)]
    assert main([*common, "--device", "cpu", "--cuda-graphs"]) == 2
    assert "--cuda-graphs needs an NVIDIA GPU, and this run is on cpu" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*common, "--plain", "--cuda-graphs"])
    assert "leave out --cuda-graphs" in capsys.readouterr().err


@pytest.mark.gpu
@without_gpu
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "replknet31n"])
@pytest.mark.parametrize("count", [1, 3])
def test_graphs_on_a_gpu_give_the_bits_of_the_network(name, count):
    from replknet import load_model

    model = load_model(name, "random").model.cuda()
    side = 160 if name.startswith("test") else 128
    form = RecordedNetwork(PlainNetwork(model, as_layer("last")), CudaGraphs())
    for number in range(4):
        x = images(count, side, seed=number).cuda()
        gradient, _ = form.central_gradient(x)
        expected, _ = PlainNetwork(model, as_layer("last")).central_gradient(x)
        assert torch.equal(gradient, expected)
    assert form.reason == ""
    assert all(kind.replay is not None for kind in form._kinds.values())


@pytest.mark.gpu
@without_gpu
def test_a_network_that_reads_numbers_from_the_gpu_is_not_recorded():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            return y * 2 if x[:, :, 0, 0].sum() > 0 else y

    model = Branch().cuda().eval()
    form = RecordedNetwork(PlainNetwork(model, as_layer("last")), CudaGraphs())
    for number in range(4):
        x = images(seed=number).cuda()
        gradient, _ = form.central_gradient(x)
        assert torch.equal(gradient, PlainNetwork(model, as_layer("last")).central_gradient(x)[0])
    assert form.reason

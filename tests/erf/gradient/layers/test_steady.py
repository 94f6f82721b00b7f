"""The output of a network for an image must depend on that image alone, and the network is left as it was found."""

import collections
import functools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import erf
from erf.gradient.contribution import ForwardError, UnsteadyForward, central_gradients, contribution_maps
from erf.gradient.layers import steady
from erf.gradient.layers.chance import what_was_drawn
from erf.gradient.layers.find import feature_map
from erf.gradient.layers.layer import Layer, as_layer
from erf.gradient.plain import PlainNetwork


def reference(model, x):
    """Mean over images of plain autograd for each image by itself, in float64."""
    maps = []
    for image in x.double():
        one = image[None].clone().requires_grad_()
        feat = model(one)
        unit = feat[:, :, feat.shape[2] // 2, feat.shape[3] // 2]
        (gradient,) = torch.autograd.grad(unit.relu().sum(), one)
        maps.append(gradient.relu().sum(1)[0])
    return torch.stack(maps).mean(0)


class Net(nn.Module):
    """Two convolutions with the operation of the case between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 6, 3, padding=1)
        nn.init.ones_(self.second.bias)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.calls = 0
        self.kept = {}
        self.ordered = collections.OrderedDict()
        self.between = between

    def forward(self, x):
        return self.second(self.between(self, self.first(x)))


def network(between):
    torch.manual_seed(0)
    return Net(between).eval().double()


def images(count=3):
    return torch.randn(count, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


MIXING = {
    "the mean over the batch": lambda net, x: x - 0.5 * x.mean(0, keepdim=True),
    "its mean without gradient": lambda net, x: x - 0.5 * x.mean(0, keepdim=True).detach(),
    "statistics of the batch": lambda net, x: F.batch_norm(x, None, None, training=True),
    "softmax over the batch": lambda net, x: x.softmax(0),
    "a little of the neighbour": lambda net, x: x + 0.01 * x.roll(1, 0),
    "the size of the batch": lambda net, x: x / len(x),
    "the first image": lambda net, x: x * x[:1].sigmoid(),
    "the place in the batch": lambda net, x: x * torch.arange(1, len(x) + 1).view(-1, 1, 1, 1),
    "the largest value of the batch": lambda net, x: x / x.abs().max(),
    "the next image alone": lambda net, x: torch.cat([x[:-1] + 0.01 * x[1:], x[-1:]]),
    "from three images on": lambda net, x: x - 0.5 * x.mean(0, keepdim=True) if len(x) > 2 else x,
    "the last but four": lambda net, x: x + 0.01 * x.roll(5, 0) if len(x) > 5 else x,
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", MIXING)
@pytest.mark.parametrize("count", [1, 3, 7])
def test_images_that_influence_each_other_are_refused(case, plain, count):
    if count < {"from three images on": 3, "the last but four": 6}.get(case, 1):
        net = network(MIXING[case])
        torch.testing.assert_close(erf.contribution_map(net, images(count), plain=plain), reference(net, images(count)))
        return
    with pytest.raises(UnsteadyForward, match=r"changes by .*% with the other images of its batch.*x.mean\(0\)"):
        erf.contribution_map(network(MIXING[case]), images(count), plain=plain)


def count_calls(net, x):
    net.calls += 1
    return x * net.calls


def running_mean(net, x):
    net.mean.mul_(0.5).add_(x.detach().mean((0, 2, 3)))
    return x - net.mean.view(1, -1, 1, 1)


def features_of_the_first_image(net, x):
    if "features" not in net.kept:
        net.kept["features"] = x
    return net.kept["features"]


def scaled_by_the_first_image(net, x):
    net.kept.setdefault("scale", x.std())
    return x / net.kept["scale"]


def scaled_by_the_first_images_of_an_ordered_dictionary(net, x):
    net.ordered.setdefault("scale", x.std())
    return x / net.ordered["scale"]


def replaced_buffer(net, x):
    net.mean = 0.5 * net.mean + x.detach().mean((0, 2, 3))
    return x - net.mean.view(1, -1, 1, 1)


CHANGING = {
    "dropout": lambda net, x: F.dropout(x, 0.5, training=True),
    "dropout of very few": lambda net, x: F.dropout(x, 0.002, training=True),
    "noise": lambda net, x: x + 0.1 * torch.randn_like(x),
    "noise of a generator": lambda net, x: x + 0.1 * torch.rand(x.shape, generator=net.generator).to(x),
    "a counter": count_calls,
    "a running mean": running_mean,
    "a buffer that is replaced": replaced_buffer,
    "features that are kept": features_of_the_first_image,
    "a scale that is kept": scaled_by_the_first_image,
    "a scale that is kept elsewhere": scaled_by_the_first_images_of_an_ordered_dictionary,
    "once in a thousand passes": lambda net, x: x if torch.rand(()) < 0.999 else 2 * x,
    "once in a thousand passes, by Python": lambda net, x: 2 * x if random.random() < 0.001 else x,
    "once in a thousand passes, by NumPy": lambda net, x: 2 * x if np.random.rand() < 0.001 else x,
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", CHANGING)
def test_forward_passes_that_differ_are_refused(case, plain):
    net = network(CHANGING[case])
    net.generator = torch.Generator().manual_seed(2)
    state = what_was_drawn(torch.device("cpu"))
    with pytest.raises(
        UnsteadyForward, match=r"same image changes by .*% from one forward pass to the next.*F.dropout.*it keeps"
    ):
        erf.contribution_map(net, images(1), plain=plain)
    assert what_was_drawn(torch.device("cpu")) == state
    assert not net.kept
    assert not net.ordered
    assert net.calls == 0
    assert not net.mean.any()


def counted(net, x):
    net.count += 1
    net.mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
    return x


def tabled(net, x):
    if "table" not in net.kept:
        net.kept["table"] = torch.linspace(0, 1, x.shape[3], dtype=x.dtype)
    return x * net.kept["table"]


STEADY = {
    "statistics that are only kept": counted,
    "a table that is kept": tabled,
    "random numbers without effect": lambda net, x: x + 0 * torch.rand(1) + 0 * random.random() + 0 * np.random.rand(),
    "statistics of each image": lambda net, x: F.instance_norm(x),
    "images in the channels": lambda net, x: F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), net.second.weight.repeat(len(x), 1, 1, 1), padding=1, groups=len(x)
    ).reshape(x.shape),
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", STEADY)
def test_what_each_image_settles_has_its_map(case, plain):
    net = network(STEADY[case])
    found = erf.contribution_map(net, images(), plain=plain)
    assert not net.mean.any()
    assert net.count == 0
    torch.testing.assert_close(found, reference(net, images()), rtol=1e-9, atol=1e-15)


def test_buffers_are_left_as_they_were_by_every_pass_of_ours():
    net = network(counted)
    mean, version = net.mean, net.mean._version
    central_gradients(net, images())
    erf.theoretical_field(net, (64, 64))
    erf.contribution_map(net, images(), layer="second")
    assert net.mean is mean
    assert mean._version == version
    net(images())  # its own pass still keeps what it wants
    assert net.mean.any()


def test_scripted_modules_keep_their_buffers():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count.add_(1)
            return self.conv(x)

    scripted = torch.jit.script(Counting().eval())
    erf.contribution_map(scripted, torch.randn(1, 3, 32, 32), plain=True)
    assert scripted.count == 0


def test_it_is_tried_once_and_again_when_the_network_changes(monkeypatch):
    tried = []
    check = steady._Passes.check
    monkeypatch.setattr(steady._Passes, "check", lambda self, count: (tried.append(1), check(self, count))[1])
    net = network(lambda net, x: x + net.calls * x.mean(0))
    for _ in range(3):
        erf.contribution_map(net, images())
    assert len(tried) <= 2  # of the network, and of the copy that runs in its place
    erf.contribution_map(net, images(), plain=True)
    assert len(tried) <= 3  # an unrecorded network is tried each time: its code may read something else than before
    net.calls = 1
    with pytest.raises(UnsteadyForward):
        erf.contribution_map(net, images(), plain=True)


class Permuted(nn.Module):
    """A network whose layout is an attribute."""

    def __init__(self):
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, 8, 8, 8), nn.Identity()
        self.order = (0, 1, 2, 3)

    def forward(self, x):
        return self.layer(self.stem(x).permute(self.order))


@pytest.mark.parametrize("plain", [False, True])
def test_a_layout_is_found_anew_when_the_network_changes(plain):
    torch.manual_seed(0)
    net, x = Permuted().eval().double(), images(1)
    expected = erf.contribution_map(net, x, layer="stem", plain=True)
    for order in [(0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)]:
        net.order = order
        found = erf.contribution_map(net, x, layer="layer", plain=plain)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


class OneImage(Net):
    """A network that accepts only one image at a time."""

    def forward(self, x):
        if len(x) != 1:
            raise ValueError("one image, please")
        return super().forward(x)


def test_a_network_that_takes_single_images():
    torch.manual_seed(0)
    net = OneImage(lambda net, x: x).eval().double()
    torch.testing.assert_close(erf.contribution_map(net, images(1)), reference(net, images(1)))
    with pytest.raises(UnsteadyForward, match="from one forward pass to the next"):
        erf.contribution_map(OneImage(CHANGING["dropout"]).eval(), images(1).float())


@functools.cache
def coordinates(count, kind):
    return torch.linspace(0, 1, count) if kind == "function" else torch.arange(count) / count


TABLE = {}


def kept_in_a_dictionary(x):
    if "ones" not in TABLE:
        TABLE["ones"] = (x.new_ones(x.shape[3]), torch.full_like(x[:1], 2.0), torch.zeros_like(x[0, 0]))
    ones, twos, zeros = TABLE["ones"]
    return x * ones * twos + zeros


OUTSIDE = {
    "a cached function": lambda net, x: x * coordinates(x.shape[3], "function").to(x),
    "by another function": lambda net, x: x * (1 + coordinates(x.shape[3], "arange").to(x)),
    "a dictionary": lambda net, x: kept_in_a_dictionary(x),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_what_is_kept_outside_of_modules_has_data(case):
    coordinates.cache_clear()
    TABLE.clear()
    net = network(OUTSIDE[case])
    field = erf.theoretical_field(net, (64, 64))
    assert field.side_px == (12, 12)
    found = erf.contribution_map(net, images(1))
    assert type(net(images(1))) is torch.Tensor
    assert net(images(1)).isfinite().all()
    torch.testing.assert_close(found, reference(net, images(1)), rtol=1e-9, atol=0)


def test_one_image_in_a_list_is_the_map():
    class Listed(Net):
        def forward(self, x):
            return [super().forward(x)]

    torch.manual_seed(0)
    net = Listed(lambda net, x: x).eval().double()
    expected = erf.contribution_map(net, images(), layer="second")
    for plain in (False, True):
        torch.testing.assert_close(erf.contribution_map(net, images(), plain=plain), expected, rtol=1e-9, atol=0)
    assert feature_map(net, images()).shape == (3, 6, 16, 16)
    assert erf.theoretical_field(net, (64, 64)).side_px == (12, 12)


def test_rounding_is_no_influence():
    """A deep network in float32 uses other convolution kernels for two images than for one."""
    torch.manual_seed(0)
    layers = [layer for _ in range(30) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())]
    net = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3), *layers).eval()
    for dtype in (torch.float32, torch.bfloat16):
        steady.check_steady(net.to(dtype), torch.randn(2, 3, 96, 96, dtype=dtype), as_layer("last"))


class SometimesCounting(nn.Module):
    """Its forward pass writes to the running mean of its normalisation for bright images only."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8)

    def forward(self, x):
        if x.mean() > 50:
            self.norm.running_mean.add_(1)
        return self.norm(self.stem(x))


def test_running_statistics_that_change_with_some_images_are_refused():
    form = PlainNetwork(SometimesCounting().double().eval(), Layer("last"))
    form.central_gradient(images())
    form.central_gradient(images())
    with pytest.raises(UnsteadyForward, match="writes to running statistics, but not in each forward pass"):
        form.central_gradient(images() + 100)


def test_running_statistics_that_each_forward_pass_changes_stay():
    model = SometimesCounting().double().eval()
    form = PlainNetwork(model, Layer("last"))
    maps = [form.central_gradient(images() + 100)[0] for _ in range(3)]
    assert torch.equal(maps[0], maps[2])
    assert not model.norm.running_mean.any()


class WritesThroughAView(nn.Module):
    """Counts its passes in one element of a buffer, which changes nothing that it returns."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.register_buffer("calls", torch.zeros(4))

    def forward(self, x):
        self.calls[0] += 1
        self.calls[1:3].fill_(7)
        return self.conv(x)


@pytest.mark.parametrize("plain", [True, False])
def test_buffers_that_are_written_to_through_views_are_left_as_they_were(plain):
    model = WritesThroughAView().eval()
    for _ in range(3):
        contribution_maps(model, torch.randn(1, 3, 32, 32), plain=plain)
    assert torch.equal(model.calls, torch.zeros(4))


class WritesToStatistics(nn.Module):
    """Writes to the buffers of a normalisation: in each pass without a new version, or for some images only."""

    def __init__(self, always):
        super().__init__()
        self.conv, self.by_batch, self.norm = (
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8, track_running_stats=False),
            nn.BatchNorm2d(8),
        )
        self.always = always

    def forward(self, x):
        if self.always:
            self.norm.num_batches_tracked.data.add_(1)
        elif x.max() > 8:
            self.norm.num_batches_tracked.add_(1)
        return self.norm(self.by_batch(self.conv(x)))


def test_statistics_that_are_written_to_without_a_new_version_are_left_as_they_were():
    model = WritesToStatistics(always=True).eval()
    contribution_maps(model, torch.randn(4, 3, 32, 32), plain=True)
    assert model.norm.num_batches_tracked == 0


def test_statistics_that_some_images_change_are_restored_when_these_are_refused():
    model = WritesToStatistics(always=False).eval()
    images = torch.randn(4, 3, 32, 32).clamp(-7, 7)
    images[2, 0, 0, 0] = 20
    with pytest.raises(UnsteadyForward, match="writes to running statistics, but not in each forward pass"):
        contribution_maps(model, images, plain=True)
    assert model.norm.num_batches_tracked == 0


def test_new_statistics_between_two_maps_are_not_taken_back():
    model = WritesToStatistics(always=False).eval()
    form = PlainNetwork(model, as_layer("norm"))
    for _ in range(2):
        form.central_gradient(torch.zeros(1, 3, 32, 32))
    model.norm.running_mean.fill_(0.5)
    with pytest.raises(UnsteadyForward):
        form.central_gradient(torch.full((1, 3, 32, 32), 9.0))
    assert torch.equal(model.norm.running_mean, torch.full((8,), 0.5))
    assert model.norm.num_batches_tracked == 0


def test_parameters_made_in_inference_mode_are_refused_and_keep_their_flags():
    with torch.inference_mode():
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval()
    with pytest.raises(ForwardError, match="Inference tensors cannot be saved for backward"):
        contribution_maps(model, torch.randn(1, 3, 32, 32), plain=True)
    assert all(parameter.requires_grad for parameter in model.parameters())

"""Fields followed through functions, compared with the pixels that each unit depends on according to autograd."""

import pytest
import torch
from support import Function
from torch import nn
from torch.nn import functional as F

from erf.gradient.fields import rules
from erf.gradient.fields.field import Field, Reach, Taps, image_field, union
from erf.gradient.fields.follow import field_of, follow
from erf.gradient.theoretical import TheoreticalField, theoretical_field

SIZE = (24, 32)


class Features(nn.Module):
    """A sequence of layers and functions, whose output is the map."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = [step if isinstance(step, nn.Module) else Function(step) for step in steps]
        self.layers = nn.Sequential(*self.steps)
        self.double().eval()

    def forward(self, x):
        return self.layers(x)


class UNet(nn.Module):
    """A U-Net with one step down and up again, and a shortcut."""

    def __init__(self, up, padding_mode="zeros"):
        super().__init__()
        options = dict(padding=1, padding_mode=padding_mode)
        self.first = nn.Conv2d(3, 4, 3, **options)
        self.down = nn.Conv2d(4, 4, 3, stride=2, **options)
        self.up = up
        self.last = nn.Conv2d(8, 4, 3, **options)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.cat([x, self.up(self.down(x))], 1))


def conv(*args, **kwargs):
    return nn.Conv2d(3, 4, *args, **kwargs)


def after(*args, **kwargs):
    return nn.Conv2d(4, 4, *args, **kwargs)


def _to_front(x):
    return x.permute(0, 3, 1, 2)


def support(model, size=SIZE):
    """Bounding box of the pixels with a nonzero gradient, for each unit: {unit: ((first, last), (first, last))}."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5)
    x = torch.rand(1, 3, *size, generator=generator, dtype=torch.float64).requires_grad_()
    feat = model(x)
    mix = torch.rand(feat.shape[1], generator=generator, dtype=torch.float64) + 0.5
    found = {}
    for row in range(feat.shape[2]):
        for column in range(feat.shape[3]):
            (gradient,) = torch.autograd.grad((feat[0, :, row, column] * mix).sum(), x, retain_graph=True)
            seen = gradient[0].abs().sum(0) > 0
            if not seen.any():  # it sees nothing but padding
                continue
            rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
            found[row, column] = ((rows[0].item(), rows[-1].item()), (columns[0].item(), columns[-1].item()))
    return found


KNOWN = {
    "two convolutions": [conv(3, padding=1), after(5, stride=2)],
    "uneven": [conv((3, 5), stride=(1, 2), padding=(1, 0), dilation=(2, 1))],
    "same": [conv(5, padding="same"), after(3, padding="same", dilation=3)],
    "transposed convolution": [conv(3, stride=2), nn.ConvTranspose2d(4, 4, 2, stride=2)],
    "transposed convolution that overlaps": [conv(2, stride=2), nn.ConvTranspose2d(4, 4, 4, 2, padding=1), after(3)],
    "transposed convolution, dilated": [conv(2, stride=2), nn.ConvTranspose2d(4, 4, 3, 1, padding=1, dilation=2)],
    "nearest": [conv(3, stride=2), nn.Upsample(scale_factor=2), after(3)],
    "nearest by three": [conv(4, stride=4), lambda x: F.interpolate(x, scale_factor=4), after(3, stride=2)],
    "nearest-exact": [conv(2, stride=2), nn.Upsample(scale_factor=2, mode="nearest-exact")],
    "bilinear": [conv(3, stride=2), nn.Upsample(scale_factor=2, mode="bilinear"), after(3)],
    "bilinear, corners aligned": [
        lambda x: F.interpolate(x[:, :, :17, :17], size=(33, 9), mode="bilinear", align_corners=True)
    ],
    "bilinear to half": [lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"), conv(3)],
    "bicubic": [conv(2, stride=2), nn.Upsample(scale_factor=4, mode="bicubic")],
    "area": [lambda x: F.interpolate(x, size=(8, 8), mode="area")],
    "pixel shuffle": [conv(2, stride=2), nn.PixelShuffle(2), nn.Conv2d(1, 2, 3)],
    "pixel unshuffle": [nn.PixelUnshuffle(2), nn.Conv2d(12, 2, 3)],
    "reflecting padding": [conv(3, padding=1, padding_mode="reflect"), after(3, padding=1, padding_mode="reflect")],
    "circular padding": [conv(3, padding=1, padding_mode="circular"), after(5)],
    "replicating padding": [conv(3, padding=1, padding_mode="replicate"), after(3)],
    "power-average pooling": [conv(3), nn.LPPool2d(2.0, 3)],
    "roll": [conv(3, padding=1), lambda x: torch.roll(x, (2, -3), (2, 3)), after(3)],
    "roll of channels": [conv(3, padding=1), lambda x: x.roll(1, dims=1), after(3)],
    "transposed": [conv(3), lambda x: x.transpose(2, 3), after((1, 5)), lambda x: x.transpose(2, 3)],
    "channels last": [
        conv(3),
        lambda x: x.permute(0, 2, 3, 1),
        nn.LayerNorm(4),
        nn.Linear(4, 6),
        lambda x: x.permute(0, 3, 1, 2),
    ],
    "tokens": [
        conv(4, stride=4),
        lambda x: x.flatten(2).transpose(1, 2),
        nn.Linear(4, 4),
        lambda x: x.transpose(1, 2).reshape(x.shape[0], 4, 6, 8),
        after(3),
    ],
    "patches merged": [
        conv(2, stride=2),
        lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], 6, 2, 8, 2, 4).permute(0, 1, 3, 4, 2, 5).flatten(3),
        nn.Linear(16, 4),
        lambda x: x.permute(0, 3, 1, 2),
    ],
    "softmax of channels": [conv(3), nn.Softmax(1), after(3)],
    "channels of length one": [conv(3), lambda x: F.normalize(x), after(3)],
    "pooled in parts": [conv(3, padding=1), nn.AdaptiveAvgPool2d((6, 5)), after(2)],
    "pooled to its own size": [conv(3, padding=1), nn.AdaptiveAvgPool2d(SIZE), after(2)],
    "mean of windows": [nn.AvgPool2d(3, 2, 1, ceil_mode=True), conv(2), nn.AvgPool2d(3, 1)],
    "every other pixel": [conv(3), lambda x: x[..., ::2, 1::3], after(2)],
    "a part": [lambda x: x[:, :, 4:20, 2:], conv(3)],
    "padded and cropped": [lambda x: F.pad(x, (3, -2, 1, 0)), conv(3)],
    "repeated": [conv(2, stride=2), lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, dim=3), after(3)],
    "columns of windows": [lambda x: F.unfold(x, 3, padding=1, stride=2).unflatten(2, (12, 16)), nn.Conv2d(27, 2, 2)],
    "neighbouring channels": [conv(3), nn.LocalResponseNorm(3, alpha=0.5), nn.ChannelShuffle(2), nn.PReLU(4), after(3)],
    "slopes for columns": [conv(3), lambda x: x.permute(0, 3, 1, 2), nn.PReLU(30), lambda x: x.permute(0, 2, 3, 1)],
    "the type of another tensor": [
        conv(3),
        lambda x: x * torch.ones(30).to(x) * torch.ones(22, 1).type_as(x),
        after(3),
    ],
    "channels in two halves": [conv(3), lambda x: torch.cat([p.sigmoid() for p in x.chunk(2, 1)][::-1], 1), after(3)],
    "einsum of channels": [conv(3), lambda x: torch.einsum("nchw,cd->ndhw", x, torch.ones(4, 5, dtype=x.dtype))],
    "product with channels": [
        conv(3),
        lambda x: (x.permute(0, 2, 3, 1) @ torch.ones(4, 2, dtype=x.dtype)).permute(0, 3, 1, 2),
    ],
    "written in place": [conv(3), lambda x: x.mul_(2).clone().sigmoid_(), after(3)],
    "U-Net by a transposed convolution": [UNet(nn.ConvTranspose2d(4, 4, 2, 2))],
    "U-Net by bilinear interpolation": [UNet(nn.Upsample(scale_factor=2, mode="bilinear"))],
    "U-Net by pixel shuffle": [UNet(nn.Sequential(nn.Conv2d(4, 16, 1), nn.PixelShuffle(2)))],
    "U-Net with reflecting padding": [UNet(nn.Upsample(scale_factor=2), padding_mode="reflect")],
}


@pytest.mark.parametrize("name", KNOWN)
def test_each_unit_sees_the_pixels_that_its_gradient_reaches(name):
    """Compares first and last pixel of every unit; a field beyond the border is cut off there, or before, at a tap."""
    model = Features(*KNOWN[name])
    field = theoretical_field(model, SIZE)
    assert field.reason is None
    checked = 0
    for unit, seen in support(model).items():
        covers = field.covers(unit)
        if covers is None:
            assert field.turns
            continue
        for (first, last), (low, high), n in zip(covers, seen, SIZE, strict=True):
            assert first <= low <= high <= last, unit
            if first >= 0 and last < n:
                assert (first, last) == (low, high), unit
                checked += 1
    assert checked > 5
    height, width = (max(last - first + 1 for first, last in side.intervals) for side in field.reach)
    assert field.side_px == (height, width)


def test_rounding_of_interpolation_is_allowed_for():
    """If the factor is not a power of two, rounding may give a weight to a pixel next to the expected ones."""
    model = Features(conv(3), lambda x: F.interpolate(x, scale_factor=3, mode="bilinear"))
    field = theoretical_field(model, (9, 9))
    for unit, seen in support(model, (9, 9)).items():
        for (first, last), (low, high) in zip(field.covers(unit), seen, strict=True):
            assert first <= low <= high <= last
            assert last - first - (high - low) <= 2 or low == 0 or high >= 8


MIXED = {
    "no bound: pooling over the whole image": [
        lambda x: x * x.mean((2, 3), keepdim=True),
        lambda x: x * F.adaptive_avg_pool2d(x, 1),
        lambda x: x - x.amax(3, keepdim=True),
    ],
    "no bound: normalisation over the whole image": [
        nn.GroupNorm(1, 3),
        nn.InstanceNorm2d(3),
        nn.LayerNorm(SIZE),
        lambda x: F.normalize(x, dim=3),
    ],
    "no bound: statistics of the batch": [nn.BatchNorm2d(3, track_running_stats=False)],
    "no bound: attention, or another product of positions": [
        lambda x: x.flatten(2).softmax(-1).unflatten(2, SIZE),
        lambda x: (
            F.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3).transpose(1, 2).unflatten(2, SIZE)
        ),
        lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).unflatten(2, SIZE),
        nn.Linear(32, 32),
        lambda x: x.flatten(2).transpose(1, 2).__rmatmul__(torch.ones(768, 768)).transpose(1, 2).unflatten(2, SIZE),
        lambda x: torch.einsum("nchw,wv->nchv", x, torch.ones(32, 32, dtype=x.dtype)),
        nn.Sequential(
            Function(lambda x: x.transpose(1, 2)), nn.Conv2d(24, 24, 1), Function(lambda x: x.transpose(1, 2))
        ),
    ],
    "not known: flipping": [lambda x: x.flip(3)],
    "not known: the function local_response_norm over positions": [
        lambda x: _to_front(F.local_response_norm(x.permute(0, 2, 3, 1), 5)),
        nn.Sequential(Function(_to_front), nn.LocalResponseNorm(3), Function(lambda x: x.permute(0, 2, 3, 1))),
    ],
    "not known: the function channel_shuffle over positions": [
        lambda x: _to_front(F.channel_shuffle(x.permute(0, 2, 3, 1).contiguous(), 2)),
        nn.Sequential(Function(_to_front), nn.ChannelShuffle(2), Function(lambda x: x.permute(0, 2, 3, 1))),
    ],
    "not known: positions are rearranged": [
        lambda x: x.reshape(1, 3, 32, 24),
        lambda x: x.unflatten(2, (6, 4)).transpose(2, 3).flatten(2, 3),
    ],
    "not known: maps of different layout": [lambda x: x[..., :24] + x[..., :24].transpose(2, 3)],
    "not known: maps of different resolution": [lambda x: x[:, :, ::2] + x[:, :, :12]],
    "not known: one unit is spread": [lambda x: x + x[:, :, 3:4]],
    "not known: a part of a tensor is written": [
        lambda x: _written(x.clone()),
        lambda x: _written_by_view(x * 1),
        lambda x: _written_by_view_of_zeros(x),
        lambda x: _written_by_views_of_zeros(x),
    ],
    "not known: the function cummax": [lambda x: x.cummax(3)[0]],
    "not known: a function that PyTorch does not show": [
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)))
    ],
    "not known: indexing of positions": [lambda x: x[..., torch.arange(31, -1, -1)]],
    "not known: the function conv2d of several tensors": [lambda x: F.conv2d(x, x[:, :, :1, :1])],
    "not known: interpolation with antialiasing": [
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    ],
    "not known: the network's path depends on its data": [lambda x: x if x.sum() > 0 else -x],
}


def _written(x):
    x[:, :, 5:] = F.avg_pool2d(x, 3, 1, 1)[:, :, 5:]
    return x


def _written_by_view(x):
    half = x.chunk(2, 3)[0]
    half.add_(F.avg_pool2d(half, 3, 1, 1))
    return x


def _written_by_view_of_zeros(x):
    """The whole tensor does not depend on the image until a view of it is written to."""
    whole = torch.zeros(x.shape, dtype=x.dtype)
    whole[:, :, 8:].copy_(x[:, :, :-8])
    return whole + x


def _written_by_views_of_zeros(x):
    whole = x.new_zeros(x.shape)
    whole[:, :, 8:][..., 8:] = x[:, :, :-8, :-8]
    return F.avg_pool2d(whole, 3, 1, 1) + x


@pytest.mark.parametrize(("reason", "step"), [(reason, step) for reason, steps in MIXED.items() for step in steps])
def test_what_has_no_bound_or_is_not_known_says_why(reason, step):
    field = theoretical_field(Features(step), SIZE)
    assert field.reason.startswith(reason)
    assert field.side_px is field.stride_px is field.first_px is field.covers((0, 0)) is None


def test_a_layer_before_the_unknown_function_keeps_its_field():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Function(lambda x: x.cummax(3)[0]), nn.Conv2d(4, 4, 3)).eval()
    assert theoretical_field(model, SIZE, layer="0").side_px == (3, 3)
    assert theoretical_field(model, SIZE, layer="2").reason == "not known: the function cummax"


@pytest.mark.parametrize("channels", [1, 4])
def test_as_many_colours_as_the_first_convolution_takes(channels):
    assert theoretical_field(Features(nn.Conv2d(channels, 4, 5)), SIZE).side_px == (5, 5)


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_a_field_within_the_image_is_known_and_one_beyond_its_padded_border_is_not(mode):
    field = theoretical_field(Features(conv(3, padding=1, padding_mode=mode)), SIZE)
    assert field.side_px == (3, 3)
    assert field.covers((5, 5)) == [[4, 6], [4, 6]]
    assert field.covers((0, 5)) is None


def test_units_of_an_enlarged_map_see_differently_many_pixels():
    field = theoretical_field(Features(conv(3, padding=1), nn.Upsample(scale_factor=2, mode="bilinear")), SIZE)
    assert field.side_px == (4, 4)
    assert field.stride_px == (0.5, 0.5)
    assert field.covers((10, 11)) == [[3, 6], [4, 7]]


def test_the_network_gets_its_caches_back():
    """LeViT caches its attention biases; a cached tensor without data would break the next forward pass."""

    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.cache, self.last = {}, None

        def forward(self, x):
            self.last = self.cache["weight"] = self.weight * 2
            self.seen = x.shape
            return x * self.cache["weight"]

    model = Caching().eval()
    cache = model.cache
    theoretical_field(model, SIZE)
    assert model.cache is cache
    assert not cache
    assert model.last is None
    assert not hasattr(model, "seen")


def test_reaches_join_over_their_common_period():
    two = Reach().through(Taps(lambda o: (o // 2,), 2, 1))
    three = Reach().through(Taps(lambda o: (o // 3,), 3, 1))
    assert two.period == 2
    assert two.joined(three) is None  # they drift apart
    shifted = two.through(Taps(lambda o: (o - 1,)))
    joined = two.joined(shifted)
    assert [joined.of(i) for i in range(4)] == [(-1, 0), (0, 0), (0, 1), (1, 1)]
    assert two.through(Taps(lambda o: (2 * o, 2 * o + 1), 1, 2)) == Reach()


def test_the_reason_without_bound_goes_before_the_unknown_one():
    field = image_field(SIZE)
    assert union([field.unknown("this"), field.without_bound("that")]).reason == "no bound: that"
    assert union([field, Field(None, None, "not known: this")]).axes == field.axes


def test_two_tensors_without_the_image_have_no_field():
    def run(x):
        return field_of(torch.ones(2) + 1), field_of(torch.zeros_like(x)), field_of(x.new_zeros(2)), field_of(x + 1)

    *without, seeing = follow(nn.Linear(1, 1), run, (1, 3, *SIZE))
    assert without == [None, None, None]
    assert seeing.reach == (Reach(), Reach())


def test_a_field_that_is_not_known_covers_nothing():
    assert TheoreticalField(None, None, None, "not known: why").covers((0, 0)) is None


def _callable(name):
    """A function of PyTorch by its name, as a function of one tensor."""
    return next((getattr(home, name) for home in (F, torch, torch.Tensor) if hasattr(home, name)), None)


ONE_TENSOR = {"threshold": (0.1, 2.0), "hardtanh": (-1.0, 1.0), "dropout": (0.5, False), "pow": (2,), "clamp": (-1, 1)}


def _result(name, x):
    """The result of such a function, with the tensor as every tensor argument; None if it has no gradient."""
    function = _callable(name)
    for arguments in (ONE_TENSOR.get(name, ()), (x,), (x, x), (x > 0.5, x), (x > 0.5, 0.0), (0.5,)):
        try:
            result = function(x, *arguments)
        except (TypeError, RuntimeError, ValueError):
            continue
        if isinstance(result, torch.Tensor) and result.shape == x.shape and result.requires_grad:
            return result
    return None


def test_functions_that_are_called_pointwise_are_it_in_every_dimension():
    """Autograd confirms that an element depends on no other element."""
    x = (torch.rand(2, 4, 6, 8, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    results = {name: _result(name, x) for name in rules._POINTWISE}
    tried = {name: result for name, result in results.items() if result is not None}
    at = (1, 2, 3, 4)
    for name, result in tried.items():
        (gradient,) = torch.autograd.grad(result[at], x, allow_unused=True)
        assert gradient is None or not {tuple(one) for one in gradient.nonzero().tolist()} - {at}, name
    assert len(tried) > 60

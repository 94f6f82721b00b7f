"""The map of a layer that is requested by name, compared with plain autograd in float64, written out here."""

import copy
from collections import namedtuple
from contextlib import suppress
from dataclasses import dataclass

import pytest
import timm
import torch
import torchvision
from support import Function
from torch import nn

import erf
from erf.gradient.contribution import ForwardError, Layer, LayerError, NotDifferentiable, TrainModeError
from erf.gradient.layers.find import feature_map, find_feature_map
from erf.gradient.layers.layer import TakenLayer


def reference(model, x, module, to_map, call=0, entry=lambda output: output):
    """Contribution map of the central unit: the module's output is copied unchanged and rearranged by `to_map`."""
    model, x = copy.deepcopy(model).double().requires_grad_(False), x.double().clone().requires_grad_()
    outputs = []

    def hook(m, args, output):
        outputs.append(entry(output).clone())
        if len(outputs) == call + 1:  # what comes later may write over what the gradient needs
            raise StopIteration

    handle = dict(model.named_modules())[module].register_forward_hook(hook)
    with suppress(StopIteration):
        model(x.clone())
    handle.remove()
    feat = to_map(outputs[call])
    unit = feat[:, :, feat.shape[2] // 2, feat.shape[3] // 2]
    (gradient,) = torch.autograd.grad(unit.relu().sum(), x)
    return gradient.relu().sum(1).mean(0)


def nchw(output):
    return output


def nhwc(output):
    return output.permute(0, 3, 1, 2)


def nwhc(output):
    return output.permute(0, 3, 2, 1)


def tokens(h, w, prefix=0):
    return lambda output: output[:, prefix:].transpose(1, 2).reshape(len(output), -1, h, w)


def assert_map(model, x, layer, expected):
    """Assert that both forms give this map in float64 up to rounding, and the plain form in float32 within 2%."""
    assert expected.sum() > 0
    twin = copy.deepcopy(model).double()
    for plain in (False, True):
        found = erf.contribution_map(twin, x.double(), layer=layer, plain=plain)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10 * expected.max().item())
    found = erf.contribution_map(model, x, layer=layer, plain=True)
    assert (found - expected).norm() < 0.02 * expected.norm()


class ChannelsLast(nn.Module):
    """Blocks with features (N, H, W, C), where the numbers of channels, rows and columns are equal."""

    def __init__(self, side=16):
        super().__init__()
        self.stem = nn.Conv2d(3, side, 4, stride=4)
        self.block = nn.Sequential(nn.LayerNorm(side), nn.Linear(side, side), nn.GELU(), nn.Linear(side, side))
        self.head = nn.Linear(side, 5)

    def forward(self, x):
        x = self.stem(x).permute(0, 2, 3, 1)
        return self.head((x + self.block(x)).mean((1, 2)))


class Windows(nn.Module):
    """Partitions the map into windows of 4 x 4 pixels along the batch, and back."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.inside = nn.Linear(8, 8)
        self.after = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        x = self.inside(x).softmax(1)
        x = x.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return self.after(x)


class Unrolled(nn.Module):
    """Tokens in another order than row by row: one quarter of the map after the other, as in Hiera."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w, c)
        return self.block(x).mean(1)


class Attention(nn.Module):
    """Attention in which positions cannot be followed, because tokens are sorted and sorted back."""

    def __init__(self, transposed=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 4, stride=4)
        self.block = nn.Identity()
        self.transposed = transposed

    def forward(self, x):
        x = self.stem(x).flatten(2)  # (N, C, L)
        order = torch.arange(x.shape[2], device=x.device).flip(0)
        x = x.index_select(2, order).index_select(2, order)
        return self.block(x if self.transposed else x.transpose(1, 2)).mean((1, 2))


class Several(nn.Module):
    """A network with a head that is called for three maps, and with outputs of every kind."""

    Pair = namedtuple("Pair", ["fine", "coarse"])

    @dataclass
    class Result:
        logits: torch.Tensor
        maps: list

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.head = nn.Conv2d(6, 6, 3, padding=1)
        self.pair = Function(lambda x: self.Pair(x * 2, x[:, :, ::2, ::2].sin()))
        self.boxed = Function(lambda x: self.Result(x.mean((2, 3)), [x.exp(), {"deep": x.cos()}]))
        self.alone = Function(lambda x: (x.exp(), "words", 3))

    def forward(self, x):
        x = self.stem(x)
        fine, coarse = self.pair(x)
        heads = [self.head(part) for part in (fine, coarse, fine.tanh())]
        self.boxed(x)
        self.alone(x)
        return {"out": heads[0], "aux": heads[1]}


class Overwritten(nn.Module):
    """Modifies an output in every possible way after a hook has seen it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.part = Function(lambda x: x[:, :4])
        self.same = nn.Identity()
        self.smooth = nn.Tanh()
        self.last = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.act(self.conv(x))
        self.part(x)
        x = self.same(x) * 1
        x += self.last(x.clone())
        y = self.smooth(x)
        y.mul_(3)  # writes over what the gradient of tanh needs
        return self.last(y)


def resnet():
    model = timm.create_model("resnet18", zero_init_last=False)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.bias, 0, 0.3)
    return model


def swin():
    return torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=12, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2], window_size=[7, 7]
    )


def vit():
    return torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def silu():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(inplace=True), nn.Conv2d(8, 8, 3), nn.SiLU(True)
    )


# name: network, image's size, layer, and its map from the module's output
CASES = {
    "overwritten by a ReLU and a sum": (resnet, (64, 64), "layer4.1.bn2", "layer4.1.bn2", nchw),
    "overwritten by a sum": (resnet, (64, 64), "layer1.0.bn2", "layer1.0.bn2", nchw),
    "overwritten by a SiLU": (silu, (20, 24), "1", "1", nchw),
    "overwritten convolution": (silu, (20, 24), "3", "3", nchw),
    "a view of what is overwritten": (Overwritten, (16, 16), "part", "part", nchw),
    "its input, which is overwritten": (Overwritten, (16, 16), "same", "same", nchw),
    "overwritten before its gradient": (Overwritten, (16, 16), "smooth", "smooth", nchw),
    "torchvision's Swin": (swin, (96, 96), "features.5", "features.5", nhwc),
    "torchvision's Swin, whole": (
        swin,
        (64, 96),
        "features",
        "features",
        nhwc,
    ),
    "torchvision's ViT": (
        vit,
        (64, 64),
        "encoder.layers.encoder_layer_1",
        "encoder.layers.encoder_layer_1",
        tokens(4, 4, 1),
    ),
    "channels-last MLP of ConvNeXt": (
        lambda: timm.create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
        (64, 96),
        "stages.1.blocks.0.mlp",
        "stages.1.blocks.0.mlp",
        nhwc,
    ),
    "channels-last normalisation": (
        lambda: timm.create_model("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
        (64, 64),
        "stages.1.blocks.0.norm",
        "stages.1.blocks.0.norm",
        nhwc,
    ),
    "patches of Swin": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1), num_heads=(2, 2)),
        (64, 64),
        "patch_embed.proj",
        "patch_embed.proj",
        nchw,
    ),
    "block of Swin": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1), num_heads=(2, 2)),
        (64, 64),
        "layers.0.blocks.0",
        "layers.0.blocks.0",
        nhwc,
    ),
    "own channels-last block": (ChannelsLast, (64, 64), "block", "block", nhwc),
    "own channels-last stem": (ChannelsLast, (64, 64), "stem", "stem", nchw),
    "after windows": (Windows, (32, 48), "after", "after", nchw),
    "tokens of ViT, not square": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=2),
        (64, 96),
        "blocks.1",
        "blocks.1",
        tokens(4, 6, 1),
    ),
    "tokens tried out": (Attention, (64, 96), "block", "block", tokens(16, 24)),
    "tokens in the last dimension, tried out": (
        lambda: Attention(transposed=True),
        (64, 96),
        "block",
        "block",
        lambda output: output.unflatten(2, (16, 24)),
    ),
    "tokens said to be so": (Attention, (64, 64), Layer("block", layout="NLC"), "block", tokens(16, 16)),
    "tokens in the last dimension": (
        lambda: Attention(transposed=True),
        (64, 64),
        Layer("block", layout="NCL", prefix_tokens=0),
        "block",
        lambda output: output.unflatten(2, (16, 16)),
    ),
    "blocks of Hiera, last of all": (
        lambda: timm.create_model("hiera_tiny_224", stages=(1, 1, 1, 1), embed_dim=16),
        (224, 224),
        "last",
        "blocks.3",
        tokens(7, 7),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_gives_its_own_map(case):
    build, size, layer, module, to_map = CASES[case]
    model = build().eval()
    x = torch.randn(2, 3, *size)
    assert_map(model, x, layer, reference(model, x, module, to_map))


ENTRIES = {
    "pair:fine": ("pair", lambda output: output[0]),
    "pair:1": ("pair", lambda output: output[1]),
    "pair:-1": ("pair", lambda output: output[1]),
    "boxed:maps:0": ("boxed", lambda output: output.maps[0]),
    "boxed:maps:1": ("boxed", lambda output: output.maps[1]["deep"]),
    "boxed:maps:1:deep": ("boxed", lambda output: output.maps[1]["deep"]),
    "alone": ("alone", lambda output: output[0]),
    ":out": ("", lambda output: output["out"]),
}


@pytest.mark.parametrize("layer", ENTRIES)
def test_an_entry_of_a_layers_output(layer):
    module, entry = ENTRIES[layer]
    model = Several().eval()
    x = torch.randn(2, 3, 32, 32)
    assert_map(model, x, layer, reference(model, x, module, nchw, entry=entry))


@pytest.mark.parametrize("call", [0, 1, 2, -1, -3])
def test_one_of_several_calls(call):
    model = Several().eval()
    x = torch.randn(2, 3, 32, 32)
    assert_map(model, x, Layer("head", call=call), reference(model, x, "head", nchw, call))


def test_the_input_of_a_module_is_a_map_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = torch.randn(1, 3, 20, 20)
    torch.testing.assert_close(
        erf.contribution_map(model, x, layer="2:in"), erf.contribution_map(model, x, layer="1"), rtol=1e-6, atol=1e-9
    )


def test_backbones_of_torchvisions_segmentation_and_detection():
    torch.manual_seed(0)
    body = torchvision.models._utils.IntermediateLayerGetter(torchvision.models.resnet18(), {"layer4": "out"})
    head = torchvision.models.segmentation.fcn.FCNHead(512, 21)
    segmentation = torchvision.models.segmentation.FCN(body, head).eval()
    x = torch.randn(1, 3, 64, 64)
    assert feature_map(segmentation, x, layer="backbone:out").shape == (1, 512, 2, 2)
    assert feature_map(segmentation, x, layer="backbone").shape == (1, 512, 2, 2)  # its only entry
    assert feature_map(segmentation, x, layer=":out").shape == (1, 21, 64, 64)
    pyramid = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    detection = torchvision.models.detection.RetinaNet(pyramid, 2, min_size=64, max_size=64).eval()
    head = "head.classification_head.conv.0"
    with pytest.raises(
        LayerError, match=r"runs 5 times in a forward pass \(it gives .*\); say which by call=0 to call=4"
    ):
        feature_map(detection, x, layer=head)
    sizes = [feature_map(detection, x, layer=Layer(head, call=call)).shape[-1] for call in range(5)]
    assert sizes == [16, 8, 4, 2, 1]
    assert feature_map(detection, x, layer="backbone:1").shape[-1] == 8
    with pytest.raises(
        LayerError, match=r"layer 'backbone' gives several tensors; name one: backbone:0 \(1, 256, 16, 16\)"
    ):
        feature_map(detection, x, layer="backbone")


class SequenceFirst(nn.Module):
    """Tokens in the layout of PyTorch's recurrent layers, (L, N, C)."""

    def __init__(self):
        super().__init__()
        self.stem, self.inside = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.inside(self.stem(x).flatten(2).permute(2, 0, 1)).permute(1, 2, 0).unflatten(2, (4, 4))


REFUSED = {
    "tokens before images": (
        SequenceFirst,
        32,
        "inside",
        r"gives \(16, 1, 8\) for 1 images: its first dimension is not",
    ),
    "windows are not images": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=224, depths=(1, 1), num_heads=(2, 2)),
        224,
        "layers.0.blocks.0.attn",
        r"gives \(64, 49, 96\) for 1 images: its first dimension is not theirs",
    ),
    "own windows": (Windows, 32, "inside", r"gives \(16, 16, 8\) for 1 images"),
    "tokens in another order": (
        Unrolled,
        64,
        "block",
        r"gives \(1, 256, 8\), and which dimensions are rows and columns",
    ),
    "tokens of Hiera": (
        lambda: timm.create_model("hiera_tiny_224", stages=(1, 1, 1, 1), embed_dim=16),
        224,
        "blocks.0",
        r"gives \(1, 3136, 16\), and which dimensions are rows and columns .* say so by layout=",
    ),
    "a matrix of attention": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, class_token=False, global_pool="avg"),
        64,
        "blocks.0.attn.attn_drop",
        "cannot be told|was not run",
    ),
    "no such entry": (
        Several,
        32,
        "pair:wide",
        r"layer 'pair' gives no 'wide'; there are pair:fine \(1, 6, 16, 16\), pair",
    ),
    "no entries": (Several, 32, "stem:0", r"layer 'stem' gives \(1, 6, 16, 16\), which has no entry '0'"),
    "several entries": (Several, 32, "boxed:maps", r"name one: boxed:maps:0 \(1, 6, 16, 16\), boxed:maps:1:deep"),
    "several calls": (
        Several,
        32,
        "head",
        r"runs 3 times in a forward pass \(it gives \(1, 6, 16, 16\), \(1, 6, 8, 8\)",
    ),
    "no such call": (Several, 32, Layer("head", call=3), "runs 3 times in a forward pass; there is no call 3"),
    "no such call from the end": (Several, 32, Layer("head", call=-4), "runs 3 times .* there is no call -4"),
    "no such module": (Several, 32, "tail", "there is no such module; there are stem, head, pair"),
    "no map": (ChannelsLast, 64, "head", r"gives \(1, 5\), not a feature map of 3 or 4 dimensions"),
    "another layout": (ChannelsLast, 64, Layer("stem", layout="NLC"), r"gives \(1, 16, 16, 16\), which cannot be NLC"),
    "tokens that form no map": (
        vit,
        64,
        Layer("encoder.layers.encoder_layer_1", layout="NLC", prefix_tokens=0),
        r"its 17 tokens form no map of an image of 64 × 64 pixels; it would with so many prefix tokens: 1 \(4 × 4\)",
    ),
    "None": (Several, 32, None, "layer None: name 'last', a position"),
    "nothing": (Several, 32, "", "no such module"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("plain", [False, True])
def test_what_cannot_be_known_is_refused(case, plain):
    build, size, layer, message = REFUSED[case]
    model = build().eval()
    with pytest.raises(LayerError, match=message):
        erf.contribution_map(model, torch.randn(1, 3, size, size), layer=layer, plain=plain)


@pytest.mark.parametrize("layout", ["NCW", "NHWX", "nchw", "NCHWL", "CHW"])
def test_a_layout_is_letters_of_dimensions(layout):
    with pytest.raises(LayerError, match="such as NCHW, NHWC, NLC or NCL"):
        Layer("stem", layout=layout)


def test_the_map_says_what_it_is():
    model = ChannelsLast().eval()
    x = torch.randn(1, 3, 64, 64)
    assert find_feature_map(model, x, Layer("stem")).taken == TakenLayer("stem", "NCHW")
    assert find_feature_map(model, x, Layer("block")).taken == TakenLayer("block", "NHWC")


def test_errors_are_one_sentence():
    x = torch.randn(1, 3, 64, 64)
    convolution = nn.Conv2d(3, 4, 3, padding=1).eval()
    without = nn.Sequential(convolution, Function(torch.no_grad()(lambda x: x * 2))).eval()
    apart = nn.Sequential(convolution, Function(lambda x: torch.ones_like(x))).eval()
    with pytest.raises(
        NotDifferentiable, match=r"layer 'output' does not depend on the images as far as autograd can see"
    ):
        erf.contribution_map(without, x)
    for plain in (True, False):
        with pytest.raises(NotDifferentiable, match="layer '1'"):
            erf.contribution_map(apart, x, layer="1", plain=plain)
    complex_map = nn.Sequential(convolution, Function(torch.fft.fft2)).eval()
    for layer in ("last", "1"):
        with pytest.raises(LayerError, match="gives complex numbers, which cannot be rectified"):
            erf.contribution_map(complex_map, x, layer=layer)
    for images, error, message in (
        (torch.ones(0, 3, 64, 64), ValueError, r"batch \(N, C, H, W\) of at least one, not of shape \(0, 3, 64, 64\)"),
        (torch.ones(64, 64), ValueError, r"not of shape \(64, 64\)"),
        (torch.ones(1, 3, 64, 64, dtype=torch.uint8), TypeError, "normalised floating-point numbers, not uint8"),
        ([1, 2], TypeError, "a tensor or an array"),
    ):
        with pytest.raises(error, match=message):
            erf.contribution_map(convolution, images)
    with pytest.raises(TypeError, match=r"of a network \(torch.nn.Module\), not of 'resnet18'; replknet.load_model"):
        erf.contribution_map("resnet18", x)
    with pytest.raises(ForwardError, match=r"RuntimeError: .*expected input.* to have 3 channels"):
        erf.contribution_map(convolution, torch.randn(1, 4, 64, 64))


def test_a_submodule_in_train_mode_is_refused_by_name():
    model = timm.create_model("resnet18").eval()
    model.layer3[0].bn1.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for plain in (False, True):
        with pytest.raises(TrainModeError, match=r"its submodule 'layer3.0.bn1' \(.*\) is in train mode"):
            erf.contribution_map(model, torch.randn(2, 3, 64, 64), plain=plain)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_do_not_influence_each_other_through_the_statistics_of_a_batch():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()).eval()
    x = torch.randn(3, 3, 16, 16) * torch.tensor([1.0, 2, 3])[:, None, None, None]
    maps = erf.contribution_maps(model, x)
    for image, found in zip(x, maps, strict=True):
        torch.testing.assert_close(erf.contribution_map(model, image), found, rtol=1e-4, atol=1e-8)


def test_arrays_single_images_and_other_precisions_are_taken():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval()
    x = torch.randn(1, 3, 16, 20)
    expected = erf.contribution_map(model, x)
    for images in (x[0], x.numpy(), x.double().numpy()):
        assert torch.equal(erf.contribution_map(model, images), expected)
    with torch.inference_mode():
        assert torch.equal(erf.contribution_map(model, x), expected)
        assert torch.equal(erf.contribution_map(model, x.clone()), expected)
    with torch.autocast("cpu"):
        assert torch.equal(erf.contribution_map(model, x), expected)


def test_a_network_may_write_to_its_image():
    model = nn.Sequential(nn.ReLU(True), nn.Conv2d(3, 4, 3, padding=1)).eval()
    x = torch.randn(1, 3, 16, 16)
    before = x.clone()
    assert_map(model, x, "1", reference(model, x, "1", nchw))
    assert torch.equal(x, before)


def wrappers():
    def small():
        return timm.create_model("test_resnet", zero_init_last=False)

    compiled = torch.compile(small(), backend="eager")
    called = torch.compile(small().eval(), backend="eager")
    called(torch.randn(1, 3, 64, 64))
    inside = small()
    inside.layer2 = torch.compile(inside.layer2, backend="eager")
    in_place = small().eval()
    in_place.compile(backend="eager")
    in_place(torch.randn(1, 3, 64, 64))
    parallel = nn.DataParallel(small())
    return {
        "compiled": (compiled, compiled._orig_mod, "_orig_mod.layer2.0", "layer2.0"),
        "compiled and called": (called, called._orig_mod, "layer2.0", "layer2.0"),
        "a compiled part": (inside, inside, "layer2.0", "layer2._orig_mod.0"),
        "a compiled part by its own name": (inside, inside, "layer2._orig_mod.0", "layer2._orig_mod.0"),
        "compiled in place": (in_place, in_place, "layer2.0", "layer2.0"),
        "in parallel": (parallel, parallel.module, "module.layer2.0", "layer2.0"),
        "in parallel, without its prefix": (parallel, parallel.module, "layer2.0", "layer2.0"),
    }


@pytest.mark.sweep  # 20 seconds of torch.compile: layers of compiled and parallel networks are found
def test_compiled_and_parallel_networks():
    x = torch.randn(1, 3, 64, 64)
    for name, (model, within, layer, module) in wrappers().items():
        model.eval()
        twin = timm.create_model("test_resnet", zero_init_last=False).eval()
        state = {key.replace("_orig_mod.", ""): value for key, value in within.state_dict().items()}
        twin.load_state_dict(state)
        expected = reference(twin, x, module.replace("_orig_mod.", ""), nchw)
        for plain in (False, True):
            found = erf.contribution_map(model, x, layer=layer, plain=plain)
            assert (found - expected).norm() < 0.02 * expected.norm(), name
            found = erf.contribution_map(model, x, plain=plain)
            assert (found - erf.contribution_map(twin, x, plain=True)).norm() < 0.02 * found.norm(), name
        assert erf.theoretical_field(model, (64, 64), layer=layer).side_px == (55, 55), name


class OneColumn(nn.Module):
    """A network whose map has one channel and one column."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 8, 8)

    def forward(self, x):
        return self.conv(x).mean(3, keepdim=True)


def test_a_map_of_one_channel_and_one_column_is_not_taken_for_channels():
    model = OneColumn().eval()
    x = torch.randn(1, 3, 64, 64)
    found = feature_map(model, x)
    assert found.shape == (1, 1, 8, 1)


class TokensThroughConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, 8)
        self.mix = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return self.mix(self.stem(x).flatten(2).unsqueeze(-1))


def test_tokens_that_a_convolution_gives_are_not_taken_for_rows():
    model = TokensThroughConvolution().eval()
    with pytest.raises(LayerError, match="cannot be told"):
        erf.contribution_map(model, torch.randn(1, 3, 64, 64), layer="mix")


class OneSize(nn.Module):
    """A network that accepts only images of 32 pixels and mixes all positions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(1, 4, 32, 17))

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(self.conv(x)) * self.weight)


def test_a_network_for_one_size_is_asked_for_its_layout_or_told():
    model, x = OneSize().eval(), torch.randn(1, 3, 32, 32)
    with pytest.raises(LayerError, match="cannot be told"):
        erf.contribution_map(model, x)
    assert erf.contribution_map(model, x, layer=Layer("last", layout="NCHW")).shape == (32, 32)


def test_what_is_said_of_a_layout_holds_in_every_form():
    """The fast form detects the true layout, but must not replace the layout that was given."""
    torch.manual_seed(0)
    model, x = ChannelsLast().eval().double(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for layer, to_map in (
        (Layer("block", "NCHW"), nchw),
        (Layer("block", "NHWC"), nhwc),
        (Layer("block", "NWHC"), nwhc),
    ):
        expected = reference(model, x, "block", to_map)
        for plain in (False, True):
            found = erf.contribution_map(model, x, layer=layer, plain=plain)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10 * expected.max().item())


class OwnIntermediates(nn.Module):
    """A network whose `forward_intermediates` takes timm's arguments but behaves differently."""

    def __init__(self, given):
        super().__init__()
        self.conv, self.given = nn.Conv2d(3, 6, 3, padding=1), given

    def forward(self, x):
        return self.conv(x)

    def forward_intermediates(self, x, **options):
        return self.given(self.conv(x))


@pytest.mark.parametrize("plain", [False, True])
def test_what_a_networks_own_method_gives_is_not_taken_for_timms(plain):
    x = torch.randn(2, 3, 20, 24)
    for given in (lambda y: [y], lambda y: [y.permute(0, 2, 3, 1)]):
        model = OwnIntermediates(given).eval()
        found = erf.contribution_map(model, x, layer=0, plain=plain)
        torch.testing.assert_close(found, reference(model, x, "conv", nchw), rtol=1e-5, atol=1e-8)
        assert erf.theoretical_field(model, (20, 24)).side_px == (3, 3)
    for given in (lambda y: (y, [y]), lambda y: [y, y], lambda y: {"a": y}):
        with pytest.raises(LayerError, match=r"does not give a list of one map for one index.*such as conv"):
            erf.contribution_map(OwnIntermediates(given).eval(), x, plain=plain)


def test_a_network_whose_parameters_have_no_shape_yet():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()).eval()
    x = torch.randn(1, 3, 16, 16)
    for ask in (
        lambda: erf.contribution_map(model, x),
        lambda: erf.contribution_map(model, x, plain=True),
        lambda: erf.theoretical_field(model, (16, 16)),
    ):
        with pytest.raises(ForwardError, match=r"its parameter '0.weight' has no shape yet"):
            ask()
    model(x)
    assert erf.theoretical_field(model, (16, 16)).side_px == (3, 3)


def test_tokens_before_images_have_a_map_if_it_is_said():
    model, x = SequenceFirst().eval(), torch.randn(3, 3, 32, 32)
    expected = reference(model, x, "inside", lambda y: y.permute(1, 2, 0).unflatten(2, (4, 4)))
    for plain in (False, True):
        found = erf.contribution_map(model, x, layer=Layer("inside", layout="LNC"), plain=plain)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)

"""The large-kernel networks other than RepLKNet: the released layouts and counts, timm's checks, merged forms."""

import copy
import importlib
import itertools
import json
import math
from functools import cache

import numpy as np
import pytest
import timm
import torch
from support import ROOT, randomize_norms
from timm.layers import set_scriptable
from timm.models import group_parameters, reparameterize_model
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

import replknet
from erf.gradient.contribution import contribution_map
from erf.gradient.theoretical import theoretical_field
from replknet import load_model
from replknet.architectures.moganet import MultiOrderConv
from replknet.architectures.overlock import _places
from replknet.architectures.shiftwise import ShiftwiseConv
from replknet.architectures.slak import DecomposedKernelConv
from replknet.architectures.stages import GlobalResponseNorm
from replknet.architectures.unireplknet import DilatedReparamConv
from replknet.ops import DepthwiseConv2d, depthwise_conv2d, neighbourhood_sum
from replknet.optimize import use_stock_convolutions
from replknet.weights.sources import WeightsUnavailable, find_weights
from replknet.weights.switched_off import find_branches, switch_on
from runkit.fetch.manifest import known_files

# The same code, narrow and shallow: what is checked does not depend on the width.
_DIMS = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1))
SMALL = {
    "unireplknet_a": dict(_DIMS, kernel_sizes=((3,), (13,), (13, 3), (7,))),
    "slak_tiny": _DIMS,
    "van_b0": _DIMS,
    "moganet_xtiny": _DIMS,
    "shiftwise_tiny": _DIMS,
    "overlock_xt": dict(
        dims=(8, 16, 32, 48),
        depths=(1, 1, 1, 1),
        focus_depths=(2, 2),
        num_heads=(1, 2),
        projection=20,
        kernel_sizes=(9, 7, 7, 7),
    ),
}
MERGED = ("unireplknet_a", "slak_tiny", "shiftwise_tiny", "overlock_xt")
# What is known of each network: parameters in training and merged form, GMACs likewise; None where it has no such form.
COUNTS = {
    "unireplknet_a": (4_649_060, 4_437_300, 0.675, 0.640),
    "unireplknet_f": (6_489_328, 6_235_216, 0.947, 0.905),
    "unireplknet_p": (11_080_520, 10_741_704, 1.629, 1.573),
    "unireplknet_n": (18_818_880, 18_318_560, 2.849, 2.767),
    "unireplknet_t": (31_693_420, 31_037_980, 5.004, 4.899),
    "unireplknet_s": (56_456_704, 55_645_984, 9.219, 9.094),
    "unireplknet_b": (99_089_416, 98_008_456, 16.224, 16.057),
    "unireplknet_l": (220_076_056, 218_454_616, 36.13, 35.88),
    "unireplknet_xl": (388_690_984, 386_529_064, 63.90, 63.57),
    "slak_tiny": (50_703_838, None, 8.705, None),
    "slak_small": (91_131_820, None, 16.604, None),
    "slak_base": (157_950_792, None, 28.509, None),
    "van_b0": (4_105_800, None, 0.864, None),
    "van_b1": (13_861_800, None, 2.495, None),
    "van_b2": (26_578_472, None, 4.993, None),
    "van_b3": (44_765_608, None, 8.925, None),
    "moganet_xtiny": (2_956_066, None, 0.782, None),
    "moganet_tiny": (5_197_332, None, 1.083, None),
    "moganet_small": (25_335_675, None, 4.931, None),
    "moganet_base": (43_720_475, None, 9.861, None),
    "moganet_large": (82_480_978, None, 15.82, None),
    "moganet_xlarge": (180_991_924, None, 34.395, None),
    "shiftwise_tiny": (31_790_260, 31_002_670, None, None),
    # with the auxiliary head; dynamic convolutions and what makes their kernels are not among the GMACs
    "overlock_xt": (17_307_272, 16_791_384, 2.823, 2.661),
    "overlock_t": (34_990_472, 33_981_064, 5.914, 5.567),
    "overlock_s": (58_309_772, 56_670_476, 10.306, 9.763),
    "overlock_b": (98_012_968, 95_520_680, 17.766, 16.900),
}
# the smallest of each family, and the others where time does not matter
EACH = [name if name in SMALL else pytest.param(name, marks=pytest.mark.sweep) for name in COUNTS]
TAGS = [tag for name in COUNTS for tag in timm.list_models(f"{name}.*", include_tags=True)]
TAG_OF = {tag.partition(".")[0]: tag for tag in reversed(TAGS)}  # one for each architecture


def small(name: str, **kwargs) -> nn.Module:
    return timm.create_model(name, **{**SMALL[name], **kwargs})


def awake(model: nn.Module) -> nn.Module:
    """Give normalisations, layer scales and biases values as after training, so that each part has an effect."""
    randomize_norms(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = parameter.flatten()[0]
            if parameter.numel() > 1 and abs(value) < 0.1 and bool((parameter == value).all()):
                parameter.uniform_(-0.3, 0.3) if "bias" in name or "beta" in name else parameter.uniform_(0.5, 1.0)
            elif parameter.ndim in (2, 4) and parameter[0].numel() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    return model.eval()


def small_eval(name: str, **kwargs) -> nn.Module:
    return awake(small(name, **kwargs))


def macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image."""
    total = 0

    def count(module, args, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    model(torch.empty(1, 3, size, size))
    for handle in handles:
        handle.remove()
    return total


# --- as released --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_counts(name):
    training, merged, gmacs, gmacs_merged = COUNTS[name]
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        assert sum(p.numel() for p in model.parameters()) == training
        if gmacs:
            assert macs(model, 224) / 1e9 == pytest.approx(gmacs, rel=6e-4)  # they are given in three or four digits
        to_released_merged_form(model)
        if merged:
            assert sum(p.numel() for p in model.parameters()) == merged
        if gmacs_merged:
            assert macs(model, 224) / 1e9 == pytest.approx(gmacs_merged, rel=8e-4)


@cache
def released_layouts(path):
    return json.loads(path.read_text())["models"]


def layout(model: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.data
@pytest.mark.parametrize("name", EACH)
def test_state_dict_is_the_released_one(name, data_dir):
    """Names and shapes are those of the authors' state dict, in the same order, in training and in merged form."""
    released = released_layouts(data_dir / "zoo" / "large_kernel_keys.json")[name]
    with torch.device("meta"):
        model = timm.create_model(name)
    assert list(layout(model).items()) == list(released["train"].items())
    if "deploy" in released:
        to_released_merged_form(model)
        assert list(layout(model).items()) == list(released["deploy"].items())


def to_released_merged_form(model: nn.Module) -> None:
    """Convert to the merged form of the authors' files, which for ShiftwiseConv is less merged than ours."""
    model.join_paths() if hasattr(model, "join_paths") else model.reparameterize()


def load_through_timm(name: str, checkpoint: dict, path, **kwargs) -> nn.Module:
    torch.save(checkpoint, path)
    overlay = dict(file=str(path))
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **{**SMALL[name], **kwargs}).eval()


@pytest.mark.parametrize("merged", [False, True], ids=["training", "merged"])
@pytest.mark.parametrize("name", SMALL)
def test_checkpoint_loads_however_it_is_wrapped(name, merged, tmp_path):
    if merged and name not in MERGED:
        pytest.skip("has no merged form")
    source = small_eval(name)
    x = torch.randn(1, 3, 64, 64)
    if merged:
        to_released_merged_form(source)
    tensors = source.state_dict()
    parallel = {f"module.{key}": value for key, value in tensors.items()}
    for wrapped in (tensors, {"model": tensors, "epoch": 3}, {"state_dict": parallel}, {"model_ema": tensors}):
        assert torch.equal(load_through_timm(name, wrapped, tmp_path / "a.pth")(x), source(x))


@pytest.mark.parametrize("name", MERGED)
def test_training_checkpoint_into_merged_network_is_refused(name, tmp_path):
    source, model = small(name), small(name)
    model.reparameterize()
    filter_fn = importlib.import_module(type(model).__module__).checkpoint_filter_fn
    with pytest.raises(ValueError, match="load the checkpoint first"):
        filter_fn(source.state_dict(), model)


@pytest.mark.parametrize("kwargs", [dict(in_chans=1), dict(num_classes=5), dict(num_classes=0)])
@pytest.mark.parametrize("name", SMALL)
def test_pretrained_weights_adapt(name, kwargs, tmp_path):
    model = load_through_timm(name, small_eval(name).state_dict(), tmp_path / "a.pth", **kwargs)
    out = model(torch.randn(1, kwargs.get("in_chans", 3), 64, 64))
    assert out.shape == (1, kwargs.get("num_classes", 1000) or model.head_hidden_size)


@pytest.mark.parametrize("tag", TAGS)
def test_published_weights_are_described(tag):
    known = known_files("published_weights")[tag]
    cfg = timm.get_pretrained_cfg(tag)
    assert known.code_license in ("Apache-2.0", "MIT")
    assert known.weights_license.startswith(known.code_license)
    assert known.top1 is not None or tag.endswith(".in22k")
    assert cfg.license == known.weights_license.lower()
    assert bool(cfg.url or cfg.hf_hub_id) != bool(known.google_drive)
    if cfg.hf_hub_id:
        assert known.url == f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/{cfg.hf_hub_filename}"
    if known.google_drive:
        with pytest.raises(
            WeightsUnavailable, match=f"Google Drive only, as file {known.google_drive}.*--weights PATH"
        ):
            find_weights(tag, cfg.to_dict())


# --- timm's checks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_forward_and_checkpointing(name):
    model = small_eval(name)
    x = torch.randn(1, 3, 64, 64)
    out = model(x)
    assert out.shape == (1, 1000)
    assert torch.isfinite(out).all()
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(x.requires_grad_()), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_backward(name):
    model = small(name, num_classes=42, drop_path_rate=0.1).train()
    out = model(torch.randn(2, 3, 64, 64))
    out = torch.cat(out) if isinstance(out, tuple) else out
    out.mean().backward()
    assert out.shape[1] == 42
    assert not torch.isnan(out).any()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("tag", [TAG_OF[name] for name in SMALL])
def test_default_cfg(tag):
    model = timm.create_model(tag, **SMALL[tag.partition(".")[0]]).eval()
    cfg = model.default_cfg
    with torch.inference_mode():
        feat = model.forward_features(torch.randn(1, *cfg["input_size"]))
        assert feat.shape == (1, model.num_features, *cfg["pool_size"])
        assert model.forward_head(feat, pre_logits=True).shape == (1, model.head_hidden_size)
    classifiers = cfg["classifier"]
    for key in (cfg["first_conv"], *([classifiers] if isinstance(classifiers, str) else classifiers)):
        assert f"{key}.weight" in model.state_dict()
    model.reset_classifier(0)
    assert model.num_classes == 0
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert model(x).shape == (1, model.head_hidden_size)
        model.reset_classifier(0, "")
        assert model(x).shape == (1, model.head_hidden_size, 2, 2)
        bare = timm.create_model(tag, num_classes=0, global_pool="", **SMALL[tag.partition(".")[0]]).eval()
        assert bare(x).shape == (1, model.head_hidden_size, 2, 2)
        model.reset_classifier(7, "avg")
        assert model(x).shape == (1, 7)


@pytest.mark.parametrize("name", SMALL)
def test_features_only(name):
    model = small(name, features_only=True).eval()
    maps = model(torch.randn(1, 3, 96, 96))
    assert len(maps) == 4
    for channels, reduction, feat in zip(
        model.feature_info.channels(), model.feature_info.reduction(), maps, strict=True
    ):
        assert feat.shape[1] == channels
        assert max(feat.shape[2:]) == math.ceil(96 / reduction)


@pytest.mark.parametrize("name", SMALL)
def test_features_only_of_early_stages_drops_the_rest(name):
    whole = small_eval(name)
    early = small(name, features_only=True, out_indices=(0, 1)).eval()
    early.model.load_state_dict(whole.state_dict(), strict=False)
    assert sum(p.numel() for p in early.parameters()) < sum(p.numel() for p in whole.parameters())
    x = torch.randn(1, 3, 64, 64)
    for got, expected in zip(early(x), whole.forward_intermediates(x, intermediates_only=True), strict=False):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", SMALL)
def test_forward_intermediates(name):
    model = small_eval(name)
    x = torch.randn(1, 3, 96, 96)
    final, maps = model.forward_intermediates(x)
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
    assert [info["module"] in dict(model.named_modules()) for info in model.feature_info] == [True] * 4
    torch.testing.assert_close(final, model.forward_features(x))
    (last,) = model.forward_intermediates(x, indices=1, intermediates_only=True)
    torch.testing.assert_close(last, maps[3])
    early, second = model.forward_intermediates(x, indices=[1], stop_early=True)
    torch.testing.assert_close(second[0], maps[1])
    assert early.shape == maps[1].shape
    normed = model.forward_intermediates(x, indices=[-1], norm=True, intermediates_only=True)
    assert normed[0].shape == last.shape
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.forward_intermediates(x)[0], final, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="NCHW"):
        model.forward_intermediates(x, output_fmt="NHWC")


@pytest.mark.parametrize("merged", [False, True], ids=["training", "merged"])
@pytest.mark.parametrize("name", SMALL)
def test_torchscript(name, merged):
    if merged and name not in MERGED:
        pytest.skip("has no merged form")
    with set_scriptable(True):
        model = small_eval(name)
    if merged:
        model.reparameterize()
    scripted = torch.jit.script(model)
    for size in ((64, 64), (50, 71)):
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(scripted(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_fx_trace(name):
    without = dict(aux_head=False) if name.startswith("overlock") else {}  # it is used in train mode alone
    model = small_eval(name, num_classes=42, **without)
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    _, nodes = get_graph_node_names(model)
    traced = create_feature_extractor(model, return_nodes={nodes[-1]: "out"})
    out = traced(x)["out"]
    assert torch.equal(out, expected)
    out.mean().backward()
    assert [n for n, p in traced.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", SMALL)
def test_group_matcher(name):
    """Every parameter has a group, also in the coarse grouping, and the head is in the last group."""
    model = small(name)
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse))
        assert sum(len(names) for names in groups.values()) == len(list(model.named_parameters()))
        assert len(groups) >= 3


# --- merged forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MERGED)
def test_merged_form_computes_the_same(name):
    model = small_eval(name)
    x = torch.randn(2, 3, 64, 50)
    expected, expected_map = model(x), contribution_map(model, x)
    assert not model.is_merged
    model.reparameterize()
    assert model.is_merged
    # float32, relative to the largest logit
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    difference = (contribution_map(model, x) - expected_map).norm() / expected_map.norm()
    assert difference < 1e-5


@pytest.mark.parametrize("name", MERGED)
def test_merging_is_exact_in_float64_and_idempotent(name):
    model = small_eval(name).double()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    expected = model(x)
    model.reparameterize()
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    before = copy.deepcopy(model.state_dict())
    model.reparameterize()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", MERGED)
def test_timm_merges_it_too(name):
    model = small_eval(name)
    x = torch.randn(1, 3, 64, 64)
    merged = reparameterize_model(model)
    assert merged.is_merged
    assert not model.is_merged
    torch.testing.assert_close(merged(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MERGED)
def test_merging_respects_dtype_and_frozen_weights(name):
    model = small_eval(name).bfloat16().requires_grad_(False)
    model.reparameterize()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_optimize_and_plain_keep_the_function(name):
    model = small_eval(name).double()  # the gates of untrained networks enlarge rounding
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = model(x)
    plain = use_stock_convolutions(copy.deepcopy(model))
    assert not any(isinstance(m, DepthwiseConv2d) for m in plain.modules())
    torch.testing.assert_close(plain(x), expected, rtol=1e-7, atol=1e-7)
    replknet.optimize(model)
    assert not any(p.requires_grad for p in model.parameters())
    out = model(x.contiguous(memory_format=replknet.preferred_memory_format(model)))
    torch.testing.assert_close(out, expected, rtol=1e-7, atol=1e-7)
    if name in MERGED:
        assert model.is_merged


# --- random weights, fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [TAG_OF[name].partition(".")[0] for name in SMALL])
def test_random_weights_have_their_branches_on(name):
    model = small(name)
    woken = switch_on(find_branches(model))
    gated = name.startswith(("van", "moganet"))  # VAN's own start is 0.01, the value that is set
    assert (
        woken == "" if name.startswith("van") else "layer scales set to 0.01" in woken if gated else "set to 1" in woken
    )
    least = 0.009 if gated else 0.2
    scales = [p for n, p in model.named_parameters() if not any(word in n for word in ("bias", "beta", "rpb"))]
    assert not [p for p in scales if p.numel() > 1 and (p == p.flatten()[0]).all() and p.flatten()[0].abs() < least]


@pytest.mark.parametrize(
    "name",
    ["van_b0", "moganet_xtiny", *(pytest.param(n, marks=pytest.mark.sweep) for n in ("van_b3", "moganet_large"))],
)
@pytest.mark.parametrize("size", [224, 512])
def test_untrained_gates_stay_finite(name, size):
    """With layer scales of 1, the products of features in a gate would overflow, and no map could be drawn."""
    model = replknet.load_model(name, "random", input_size=size).model
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = model.forward_intermediates(image, indices=[-1], intermediates_only=True)[0]
    assert 0.1 < float(maps.std()) < 10


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unireplknet_a", "no bound: pooling over the whole image"),
        ("moganet_xtiny", "no bound: pooling over the whole image"),
        ("shiftwise_tiny", "no bound: pooling over the whole image"),
        ("overlock_xt", "no bound: pooling over the whole image"),
    ],
)
def test_theoretical_field_without_bound(name, reason):
    assert theoretical_field(small(name).eval(), (256, 256)).reason == reason


@pytest.mark.parametrize("merged", [False, True], ids=["training", "merged"])
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("slak_tiny", [4, 3 * 50 * 4, 4, 3 * 48 * 8, 8, 9 * 46 * 16, 16, 3 * 12 * 32]),
        # a block: 5×5, 7×7 of dilation 3, and 3×3 in the feed-forward part
        ("van_b0", [7, 3 * 24 * 4, 2 * 4, 3 * 24 * 8, 2 * 8, 5 * 24 * 16, 2 * 16, 2 * 24 * 32]),
    ],
)
def test_theoretical_field(name, sizes, merged):
    """Each layer widens the field by (side - 1) pixels of its input; sides and strides from the papers' tables."""
    model = timm.create_model(name, dims=(8, 8, 8, 8)).eval()
    if merged:
        model.reparameterize()
    field = theoretical_field(model, (256, 256))
    assert field.side_px == (sum(sizes), sum(sizes))
    assert field.stride_px == (32, 32)


# --- UniRepLKNet ---------------------------------------------------------------------------------------------------


def test_dilated_branches_are_the_authors():
    model = timm.create_model("unireplknet_a", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    block = model.stages[1][0].dwconv
    assert [(c.kernel_size[0], c.dilation[0]) for c in list(block.values())[::2]] == [
        (13, 1), (5, 1), (7, 2), (3, 3), (3, 4), (3, 5),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="larger than kernel_size=5"):
        DilatedReparamConv(4, 5, [(3, 3)])


def test_third_stages_of_the_larger_networks():
    with torch.device("meta"):
        tiny, base = timm.create_model("unireplknet_t"), timm.create_model("unireplknet_b")
    sides = [
        [max(p.shape[-1] for p in block.dwconv.parameters() if p.ndim == 4) for block in m.stages[2]]
        for m in (tiny, base)
    ]
    assert sides == [[13, 3] * 9, [13, 3, 3] * 9]


@pytest.mark.parametrize(
    ("kernel_sizes", "message"),
    [
        (((3,), (13,), (13,), (13,)), "one side for each block"),
        (((3,), (13,), (13, 4), (13,)), "has 4; there are 3, 5"),
    ],
)
def test_wrong_kernels(kernel_sizes, message):
    with pytest.raises(ValueError, match=message):
        small("unireplknet_a", kernel_sizes=kernel_sizes)


@pytest.mark.parametrize("channels_last", [False, True])
def test_global_response_norm(channels_last):
    """Compared with the definition, written out."""
    x = torch.randn(2, 5, 4, 3)
    norm = GlobalResponseNorm(5, channels_last=channels_last)
    nn.init.constant_(norm.gamma, 0.5)
    nn.init.constant_(norm.beta, 0.25)
    length = x.square().sum((2, 3)).sqrt()
    response = (length / (length.mean(1, keepdim=True) + 1e-6))[:, :, None, None]
    expected = 0.5 * x * response + 0.25 + x
    out = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if channels_last else norm(x)
    torch.testing.assert_close(out, expected)


# --- SLaK, VAN, MogaNet ---------------------------------------------------------------------------------------------


def test_decomposed_kernel_is_two_strips_and_a_square():
    conv = DecomposedKernelConv(3, 51, 5)
    assert [tuple(p.shape[2:]) for p in conv.parameters() if p.ndim == 4] == [(51, 5), (5, 51), (5, 5)]
    awake(conv).reparameterize()
    assert [tuple(p.shape[2:]) for p in conv.parameters() if p.ndim == 4] == [(51, 5), (5, 51)]
    with pytest.raises(ValueError, match="must be smaller than kernel_size=5"):
        DecomposedKernelConv(3, 5, 5)


def test_channels_that_cannot_be_split():
    with pytest.raises(ValueError, match="dim=12 is not a multiple of 8"):
        MultiOrderConv(12)


# --- ShiftwiseConv --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "first", "last"), [(51, -25, 25), (49, -24, 26), (47, -23, 24), (13, -6, 8)])
def test_shiftwise_strips_reach_as_far_as_the_shifts(side, first, last):
    """The sum of shifted 3×3 convolutions, written out as the authors' kernel adds them, on one channel."""
    conv = awake(ShiftwiseConv(2, side, ghost_ratio=0.0)).double()
    x = torch.randn(1, 2, 9, 70, dtype=torch.float64)
    small = sum(path.weight for path in conv.LoRAs).view(2, conv.parts, 3, 3)
    expected = torch.zeros_like(x)
    for shuffle in conv.order_across:
        for channel in range(2):
            for place, part in enumerate(shuffle[channel].tolist()):
                # a 3×3 kernel whose middle lies this far right of the strip's
                shift = first + 3 * place + 1
                moved = torch.nn.functional.pad(x[:, channel : channel + 1], [80, 80])[..., 80 + shift - 1 :][..., :72]
                expected[:, channel] += torch.nn.functional.conv2d(
                    torch.nn.functional.pad(moved, [0, 0, 1, 1]), small[channel, part][None, None]
                )[:, 0]
    across, upright, square = conv.kernels()
    got = depthwise_conv2d(x, across)
    torch.testing.assert_close(got, expected)
    reach = across.shape[-1] // 2
    taps = [i - reach for i in range(across.shape[-1]) if across[:, :, :, i].any()]
    assert (taps[0], taps[-1]) == (first, last)
    assert upright.shape[2:] == across.shape[2:][::-1]
    assert square.shape == (2, 1, 3, 3)


def test_shuffles_are_those_of_the_authors_seeds():
    """They use the streams of `torch.manual_seed(123)` and `np.random.seed(123)`, without changing global state."""
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    conv = ShiftwiseConv(80, 51)
    with torch.random.fork_rng():
        torch.manual_seed(123)
        expected = torch.stack([torch.randperm(17) for _ in range(60)])
    assert torch.equal(conv.order_across[0], expected)
    assert conv.chosen.shape == (60,)
    legacy = np.random.RandomState(123)
    assert conv.passing.tolist() == sorted(legacy.choice(80, 20, replace=False).tolist())
    torch.randperm(1)
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_authors_merged_shiftwise_checkpoint_computes_the_same(tmp_path):
    source = small_eval("shiftwise_tiny")
    x = torch.randn(1, 3, 64, 64)
    expected = source(x)
    source.join_paths()
    joined = load_through_timm("shiftwise_tiny", source.state_dict(), tmp_path / "a.pth")
    torch.testing.assert_close(joined(x), expected, rtol=1e-4, atol=1e-4)
    joined.reparameterize()
    again = load_through_timm("shiftwise_tiny", joined.state_dict(), tmp_path / "b.pth")
    torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-4)


# --- OverLoCK -------------------------------------------------------------------------------------------------------


def windows_by_definition(weights, x):
    """`neighbourhood_sum`, computed for one pixel and one neighbour at a time."""
    side = round(weights.shape[1] ** 0.5)
    channels, height, width = x.shape[1:]
    in_group = channels // weights.shape[2]
    out = torch.zeros_like(x)
    for i, j in itertools.product(range(height), range(width)):
        top, left = min(max(i - side // 2, 0), height - side), min(max(j - side // 2, 0), width - side)
        for a, b in itertools.product(range(side), range(side)):
            weight = weights[:, a * side + b, :, i, j].repeat_interleave(in_group, dim=1)
            out[:, :, i, j] += weight * x[:, :, top + a, left + b]
    return out


@pytest.mark.parametrize(("side", "height", "width"), [(1, 3, 2), (3, 3, 6), (5, 6, 5), (5, 8, 9)])
def test_neighbourhood_sum(side, height, width):
    weights = torch.randn(2, side * side, 2, height, width, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 6, height, width, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(neighbourhood_sum(weights, x), windows_by_definition(weights, x))
    grad = torch.randn_like(x)
    got = torch.autograd.grad(neighbourhood_sum(weights, x), (weights, x), grad)
    expected = torch.autograd.grad(windows_by_definition(weights, x), (weights, x), grad)
    torch.testing.assert_close(got, expected)
    torch.library.opcheck(torch.ops.replknet.neighbourhood_sum.default, (weights, x))


@pytest.mark.parametrize("shapes", [((1, 9, 2, 4, 4), (1, 3, 4, 4)), ((1, 4, 1, 4, 4), (1, 2, 4, 4)),
                                    ((1, 25, 1, 4, 4), (1, 2, 4, 4)), ((1, 9, 1, 4, 4), (1, 2, 4, 5))])  # fmt: skip
def test_neighbourhoods_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="k odd and at most H and W"):
        neighbourhood_sum(*map(torch.zeros, shapes))


def test_place_in_the_relative_bias_is_the_distance():
    """Index two is the pixel itself; at the border, the windows are moved inside the map."""
    assert _places(6, 3, torch.device("cpu")).tolist() == [
        [2, 3, 4],
        [1, 2, 3],
        [1, 2, 3],
        [1, 2, 3],
        [1, 2, 3],
        [0, 1, 2],
    ]


@pytest.mark.parametrize("size", [(40, 40), (33, 90), (200, 40)])
def test_overlock_on_maps_smaller_than_its_kernels(size):
    """The dynamic convolution then runs on an enlarged map; the logits keep their shape, also in TorchScript."""
    model = small_eval("overlock_xt")
    out = model(torch.randn(1, 3, *size))
    assert out.shape == (1, 1000)
    assert torch.isfinite(out).all()


def test_overlock_auxiliary_head():
    model = small("overlock_xt")
    x = torch.randn(2, 3, 64, 64)
    main, auxiliary = model.train()(x)
    assert main.shape == auxiliary.shape == (2, 1000)
    assert model.eval()(x).shape == (2, 1000)
    without = small("overlock_xt", aux_head=False).train()
    assert without(x).shape == (2, 1000)


def test_overlock_checkpoint_without_auxiliary_head(tmp_path):
    source = small_eval("overlock_xt")
    tensors = {key: value for key, value in source.state_dict().items() if not key.startswith("aux_head")}
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(load_through_timm("overlock_xt", tensors, tmp_path / "a.pth")(x), source(x))


# --- the zoo ------------------------------------------------------------------------------------------------------


def test_weights_by_path_and_their_record(tmp_path):
    source = awake(timm.create_model("unireplknet_a"))
    torch.save({"model": source.state_dict()}, tmp_path / "mine.pth")
    loaded = load_model("unireplknet_a", str(tmp_path / "mine.pth"))
    assert loaded.record.label == "weights mine.pth (model)"
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.model(x), source(x))


@pytest.mark.usefixtures("no_network")
def test_a_file_of_the_hub_that_cannot_be_had_says_so():
    with pytest.raises(WeightsUnavailable, match=r"huggingface\.co does not answer"):
        find_weights("unireplknet_a.in1k", timm.get_pretrained_cfg("unireplknet_a.in1k").to_dict())


# --- the documentation ----------------------------------------------------------------------------------------------


def test_the_page_of_the_family_has_the_counts():
    page = (ROOT / "docs" / "large-kernels.md").read_text(encoding="utf-8").partition("## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == list(COUNTS)
    for row, (training, merged, macs, merged_macs) in zip(rows, COUNTS.values(), strict=True):
        assert row[2] == ", ".join(f"{count / 1e6:.1f} M" for count in (training, merged) if count)
        assert row[3] == (", ".join(f"{count:.2f}" for count in (macs, merged_macs) if count) or "–")

"""RepLKNet meets timm's expectations of a network (the checks of timm's own test_models.py); and its two forms."""

import copy
import math

import pytest
import timm
import torch
from support import randomize_norms
from timm.layers import set_scriptable
from timm.models import reparameterize_model
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

import replknet
from replknet.architectures.replknet import ReparamLargeKernelConv, RepLKNet, checkpoint_filter_fn, default_cfgs
from replknet.ops import DepthwiseConv2d
from replknet.optimize import use_stock_convolutions

NAMES = ("replknet31b", "replknet31l", "replknetxl", "replknet31s", "replknet13", "replknet3")
TAGS = timm.list_models("replknet*", include_tags=True)
# the same code, narrow and shallow: what is checked does not depend on the width
SMALL = dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1))


def small(name: str = "replknet31b", **kwargs) -> RepLKNet:
    return timm.create_model(name, **{**SMALL, **kwargs})


def small_eval(name: str = "replknet31b", **kwargs) -> RepLKNet:
    return randomize_norms(small(name, **kwargs)).eval()


def test_all_networks_are_registered():
    assert set(NAMES) <= set(timm.list_models(module="replknet"))
    assert {"replknet31b.in1k", "replknet31b.in1k_384", "replknet31b.in22k_ft_in1k", "replknet31b.in22k_ft_in1k_384",
            "replknet31l.in22k_ft_in1k_384", "replknetxl.meg73m_ft_in1k_320"} <= set(TAGS)  # fmt: skip
    assert timm.get_pretrained_cfg("replknet31b").tag == "in1k"


@pytest.mark.parametrize(
    ("name", "training", "merged"),
    [
        ("replknet31b", 79_864_168, 79_527_272),
        ("replknet31l", 172_671_016, 172_165_672),
        ("replknetxl", 335_435_752, 335_399_656),
        ("replknet13", 74_156_392, 73_819_496),
    ],
)
def test_parameter_counts(name, training, merged):
    with torch.device("meta"):
        model = timm.create_model(name)
        assert sum(p.numel() for p in model.parameters()) == training
        model.reparameterize()
        assert sum(p.numel() for p in model.parameters()) == merged


@pytest.mark.parametrize(
    ("name", "size", "gmacs"),
    [
        ("replknet31b", 224, 15.35),
        ("replknet31b", 384, 45.12),
        ("replknet31l", 384, 95.99),
        ("replknetxl", 320, 128.73),
    ],
)
def test_multiply_accumulates(name, size, gmacs):
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        model.reparameterize()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, size, size))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=0.005)


def test_large_kernels_cost_what_the_paper_says():
    """Paper, Table 5: kernels 31, 29, 27, 13 against 3 cost 18.6% more FLOPs and 10.4% more parameters."""
    cost = {}
    for name in ("replknet31b", "replknet3"):
        with torch.device("meta"):
            model = timm.create_model(name).eval()
            model.reparameterize()
            with FlopCounterMode(display=False) as counter:
                model(torch.empty(1, 3, 224, 224))
            cost[name] = sum(p.numel() for p in model.parameters()), counter.get_total_flops()
    # the paper divides its printed figures: 79.3 and 71.8 million, 15.3 and 12.9 GFLOPs
    assert cost["replknet31b"][0] / cost["replknet3"][0] == pytest.approx(1.104, abs=0.004)
    assert cost["replknet31b"][1] / cost["replknet3"][1] == pytest.approx(1.186, abs=0.002)


# --- timm's checks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_checkpointing(name):
    model = small(name).eval()
    x = torch.randn(1, 3, 64, 64)
    out = model(x)
    assert out.shape == (1, 1000)
    assert not torch.isnan(out).any()
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(x), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_backward(name):
    model = small(name, num_classes=42, drop_path_rate=0.1).train()
    out = model(torch.randn(2, 3, 64, 64))
    out.mean().backward()
    assert out.shape == (2, 42)
    assert not torch.isnan(out).any()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("tag", TAGS)
def test_default_cfg(tag):
    model = small(tag).eval()
    cfg = model.default_cfg
    x = torch.randn(1, *cfg["input_size"])
    with torch.inference_mode():
        feat = model.forward_features(x)
        assert feat.shape == (1, model.num_features, *cfg["pool_size"])
        pooled = model.forward_head(feat, pre_logits=True)
        assert pooled.shape[1] == model.head_hidden_size
    for key in (cfg["first_conv"], cfg["classifier"]):
        assert f"{key}.weight" in model.state_dict()
    model.reset_classifier(0)
    assert model.num_classes == 0
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert model(x).shape == (1, model.head_hidden_size)
        model.reset_classifier(0, "")
        assert model(x).shape == (1, model.num_features, 2, 2)
        assert small(tag, num_classes=0, global_pool="").eval()(x).shape == (1, model.num_features, 2, 2)


@pytest.mark.parametrize("feature_cls", [None, "getter"])
def test_features_only(feature_cls):
    kwargs = {} if feature_cls is None else {"feature_cls": feature_cls}
    model = small(features_only=True, **kwargs).eval()
    maps = model(torch.randn(1, 3, 96, 96))
    assert len(maps) == 4
    for channels, reduction, feat in zip(
        model.feature_info.channels(), model.feature_info.reduction(), maps, strict=True
    ):
        assert feat.shape[1] == channels
        assert max(feat.shape[2:]) <= math.ceil(96 / reduction) + 1


def test_forward_intermediates():
    model = small_eval()
    x = torch.randn(1, 3, 96, 96)
    final, maps = model.forward_intermediates(x)
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
    torch.testing.assert_close(final, model.forward_features(x))
    (last,) = model.forward_intermediates(x, indices=1, intermediates_only=True)
    torch.testing.assert_close(last, maps[3])
    torch.testing.assert_close(model.norm(last), final)
    (normed,) = model.forward_intermediates(x, indices=[-1], norm=True, intermediates_only=True)
    torch.testing.assert_close(normed, final)
    early, second = model.forward_intermediates(x, indices=[1], stop_early=True)
    torch.testing.assert_close(second[0], maps[1])
    torch.testing.assert_close(early, maps[1])
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.forward_intermediates(x)[0], final, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="NCHW"):
        model.forward_intermediates(x, output_fmt="NHWC")


@pytest.mark.parametrize("merged", [False, True])
def test_torchscript(merged):
    with set_scriptable(True):
        model = small_eval()
    if merged:
        model.reparameterize()
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


def test_fx_trace_then_script():
    model = small_eval(num_classes=42)
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    _, nodes = get_graph_node_names(model)
    traced = create_feature_extractor(model, return_nodes={nodes[-1]: "out"})
    out = traced(x)["out"]
    assert torch.equal(out, expected)
    out.mean().backward()
    assert [n for n, p in traced.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "kwargs", [dict(in_chans=1), dict(num_classes=5), dict(num_classes=0), dict(features_only=True)]
)
def test_pretrained_weights_adapt(tmp_path, kwargs):
    source = small_eval()
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    model = timm.create_model(
        "replknet31b", pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), **SMALL, **kwargs
    ).eval()
    out = model(torch.randn(1, kwargs.get("in_chans", 3), 64, 64))
    if kwargs.get("features_only"):
        x = torch.randn(1, 3, 64, 64)
        expected = source.forward_intermediates(x, intermediates_only=True)
        for got, want in zip(model(x), expected, strict=True):
            torch.testing.assert_close(got, want)
    else:
        assert out.shape == (1, kwargs.get("num_classes", 1000) or model.num_features)


# --- training form, merged form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "steps"),
    [(name, "merge fold") for name in NAMES]
    + [("replknet31b", steps) for steps in ("merge", "fold", "fold merge", "merge fold merge fold")],
)
def test_forms_compute_the_same(name, steps):
    model = small_eval(name).double()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    expected = model(x)
    for step in steps.split():
        model.reparameterize() if step == "merge" else model.fold_batchnorm()
    # float64: the forms differ by rounding alone
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    if "fold" in steps:
        assert norms == 1  # the final one stays


def test_reparameterize_is_idempotent_and_keeps_padding():
    model = small_eval()
    model.reparameterize()
    before = copy.deepcopy(model.state_dict())
    model.reparameterize()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    large = [m.lkb_reparam for m in model.modules() if isinstance(m, ReparamLargeKernelConv)]
    assert [(conv.kernel_size[0], conv.padding[0]) for conv in large] == [
        (31, 15),
        (29, 14),
        (27, 13),
        (27, 13),
        (13, 6),
    ]


def test_timm_merges_it_too():
    model = small_eval()
    x = torch.randn(1, 3, 64, 64)
    merged = reparameterize_model(model)
    assert any("lkb_reparam" in key for key in merged.state_dict())
    assert not any("lkb_reparam" in key for key in model.state_dict())
    torch.testing.assert_close(merged(x), model(x), rtol=1e-4, atol=1e-4)


def test_merging_respects_dtype_and_frozen_weights():
    model = small_eval().bfloat16().requires_grad_(False)
    model.reparameterize()
    model.fold_batchnorm()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for n, p in model.named_parameters() if "lkb_reparam" in n)


def test_folding_needs_running_statistics():
    model = small_eval()
    model.stem[0].bn = torch.nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(ValueError, match="running statistics"):
        model.fold_batchnorm()


@pytest.mark.parametrize("kernel_sizes", [7, (51, 49, 47, 13), (3, 5, 7, 9)])
def test_any_odd_kernels(kernel_sizes):
    model = small_eval(kernel_sizes=kernel_sizes)
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    model.reparameterize()
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(kernel_sizes=(31, 30, 27, 13)), "kernel_sizes has 30: .* odd .* take 29 or 31"),
        (dict(kernel_sizes=0), "kernel_sizes has 0"),
        (dict(small_kernel=4), "small_kernel has 4"),
        (dict(kernel_sizes=(31, 29, 27)), "four stages"),
        (dict(depths=(1, 1)), "depths"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_small_kernel_must_fit():
    with pytest.raises(ValueError, match="does not fit"):
        ReparamLargeKernelConv(4, kernel_size=3, small_kernel=5)
    assert small("replknet3").stages[0].blocks[0].large_kernel.small_conv is None


# --- checkpoint layouts -------------------------------------------------------------------------------------------


def official_layout(state_dict: dict) -> dict:
    """A state dict with the keys of the authors' code."""
    renamed = {}
    for key, value in state_dict.items():
        parts = key.split(".")
        if parts[0] == "stages" and parts[2] == "downsample":
            key = ".".join(["transitions", str(int(parts[1]) - 1), *parts[3:]])
        elif parts[:2] == ["head", "fc"]:
            key = f"head.{parts[2]}"
        renamed[key] = value
    return renamed


def openmmlab_layout(state_dict: dict) -> dict:
    """A state dict with the keys of OpenMMLab's files, which their `replknet_to_mmpretrain.py` converts."""
    renamed = {}
    for key, value in official_layout(state_dict).items():
        if key.startswith("head."):
            key = key.replace("head.", "head.fc.")
        elif key.startswith("norm."):
            key = f"backbone.stages.3.{key}"
        else:
            key = f"backbone.{key}"
        renamed[key] = value
    return renamed


@pytest.mark.parametrize("merged", [False, True], ids=["training", "merged"])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "meta": {}}])
@pytest.mark.parametrize("layout", [dict, official_layout, openmmlab_layout])
def test_checkpoint_layouts_load_strictly(layout, wrap, merged):
    source = small_eval()
    x = torch.randn(1, 3, 64, 64)
    if merged:
        source.reparameterize()
    model = small().eval()
    filtered = checkpoint_filter_fn(wrap(layout(source.state_dict())), model)
    model.load_state_dict(filtered, strict=True)
    assert torch.equal(model(x), source(x))


def test_official_layout_is_the_authors():
    """Compares with the names in the authors' file for 31B where ours differ."""
    keys = official_layout(small().state_dict())
    assert {"transitions.0.0.conv.weight", "transitions.2.1.bn.running_var", "head.weight", "norm.bias"} <= keys.keys()
    assert "stages.0.blocks.0.large_kernel.lkb_origin.conv.weight" in keys
    assert "stages.0.blocks.1.preffn_bn.weight" in keys


def test_training_checkpoint_into_merged_network_is_refused():
    source, model = small(), small()
    model.reparameterize()
    with pytest.raises(ValueError, match="load the checkpoint first"):
        checkpoint_filter_fn(source.state_dict(), model)


def test_every_published_tag_names_its_hash():
    for cfg in default_cfgs.values():
        for entry in cfg.cfgs.values():
            if entry.url:
                assert len(entry.url.rsplit("-", 1)[1].partition(".")[0]) == 8


def test_optimize_keeps_the_function():
    model = small_eval()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    assert replknet.optimize(model) is model
    assert replknet.preferred_memory_format(model) is torch.channels_last
    assert not any(p.requires_grad for p in model.parameters())
    out = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"model\.eval"):
        replknet.optimize(small())


def test_optimize_leaves_small_kernels_alone():
    model = timm.create_model("resnet18").eval()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    assert torch.equal(replknet.optimize(model)(x), expected)


def test_stock_convolutions_keep_parameters_and_function():
    model = small_eval()
    keys = list(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    stock = use_stock_convolutions(model)
    assert not any(isinstance(m, DepthwiseConv2d) for m in stock.modules())
    assert list(stock.state_dict()) == keys
    torch.testing.assert_close(stock(x), expected, rtol=1e-4, atol=1e-4)
    stock.reparameterize()
    torch.testing.assert_close(stock(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merged", [False, True])
def test_every_large_kernel_is_the_projects_operator(merged):
    model = small_eval()
    if merged:
        model.reparameterize()
        model.fold_batchnorm()
    large = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size[0] > 5]
    assert len(large) == 5
    assert all(isinstance(m, DepthwiseConv2d) for m in large)

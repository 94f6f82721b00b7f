"""The claims about training in miniature: their networks, their contrasts, and one short training of each kind."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from claims.claim import Options
from claims.experiments import miniatures
from claims.experiments.mobilenet import VARIANTS, DepthwiseBranches, Variant
from erf.gradient.theoretical import theoretical_field
from runkit import UserError


def rows_of_accuracies(**top1):
    """Rows of networks, from a list of each network's accuracies over seeds."""
    return [
        {"network": f"mobilenetv2n_{name}", "seed": seed, "epochs": 5, "top1": value, "val_images": 3925}
        for name, values in top1.items()
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("dense", "dilated", "holds"),
    [([80.0], [60.0], True), ([60.0], [80.0], False), ([70.0], [69.5], None), ([80, 70, 90], [79, 71, 89], None)],
)
def test_verdict_of_a_contrast(dense, dilated, holds):
    rows = rows_of_accuracies(k9=dense, k13=dense, k3_dilated_to_9=dilated, k3_dilated_to_13=dilated)
    verdict = miniatures.DILATION.judge(rows)
    assert verdict.holds is holds
    assert verdict.findings["contrast"]["points"] == pytest.approx(np.mean(dense) - np.mean(dilated))
    assert f"{len(dense)} run" in verdict.ours


def test_shortcuts_are_judged_by_what_a_large_kernel_gains_with_them():
    """The paper's own accuracies: +0.77 with shortcuts, -14.69 without."""
    rows = rows_of_accuracies(k3=[71.76], k13=[72.53], k3_no_shortcut=[68.67], k13_no_shortcut=[53.98])
    verdict = miniatures.SHORTCUT.judge(rows)
    assert verdict.holds is True
    assert verdict.findings["contrast"]["points"] == pytest.approx(0.77 + 14.69)


def test_fields_have_their_interval_over_images_where_it_is_known():
    row = {"network": "mobilenetv2n_k3", "seed": 0, "epochs": 6, "top1": 70.0, "val_images": 100, "size_px": 256}
    row |= {"mass_side_50_px": 50.0}
    bounds = {"mass_side_50_low_px": 45.0, "mass_side_50_high_px": 52.0}
    field = miniatures._draw([row | bounds]).axes[1]
    (whisker,) = field.collections
    assert [x for x, _ in whisker.get_segments()[0]] == [45.0, 52.0]
    assert "95% intervals over images" in field.get_xlabel()
    older = miniatures._draw([row]).axes[1]
    assert not older.collections
    assert "95%" not in older.get_xlabel()


def test_without_data_nothing_is_trained():
    with pytest.raises(UserError, match="give --data DIR"):
        miniatures.SHORTCUT.measure(Options())


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    variant, model = VARIANTS[name], timm.create_model(name).eval()
    blocks = [block for group in model.blocks for block in group]
    kernels = [block.conv_dw.large.conv.kernel_size[0] for block in blocks]
    expected = [3] * 13 + [variant.kernel] * 4 if variant.last_stage else [variant.kernel] * 17
    assert kernels == expected
    assert any(block.has_skip for block in blocks) is variant.shortcut
    assert (blocks[-1].conv_dw.small is not None) is (variant.small_kernel is not None)
    features = model.forward_features(torch.randn(1, 3, 32, 32))
    assert features.shape[2:] == (2, 2)
    assert model.feature_info[-1]["reduction"] == 16


def test_dilated_and_dense_kernels_reach_equally_far():
    fields = [
        theoretical_field(timm.create_model(f"mobilenetv2n_{name}").eval(), (64, 64))
        for name in ("k13", "k3_dilated_to_13", "k3")
    ]
    assert fields[0].side_px == fields[1].side_px
    assert fields[0].side_px > fields[2].side_px


def test_a_stride_after_the_convolution_is_a_stride_of_it():
    branches = DepthwiseBranches(4, 2, Variant(9)).eval()
    x = torch.randn(1, 4, 13, 12)
    expected = F.conv2d(x, branches.large.conv.weight, stride=2, padding=4, groups=4)
    torch.testing.assert_close(branches(x), branches.large.bn(expected), rtol=1e-4, atol=1e-5)


@pytest.fixture
def ten_classes(tmp_path):
    """A folder with ten classes of noise: one batch of training images."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 64), ("val", 10)):
        for i in range(count):
            path = tmp_path / "data" / part / f"class{i % 10}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (104, 104, 3), dtype=np.uint8)).save(path)
    return tmp_path / "data"


@pytest.mark.sweep  # 20 seconds: a claim's networks are trained, kept and measured from end to end
def test_networks_are_trained_once_and_measured(ten_classes, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(miniatures, "WORKERS", 0)
    options = Options(output=tmp_path / "out", data=ten_classes, images=str(photo_folder), epochs=1, size=64)
    networks = ["mobilenetv2n_k3", "mobilenetv2n_k3_dilated_to_9"]
    first = miniatures._measure("dilation", networks, options)
    assert [row["network"] for row in first.rows] == networks
    assert all(0 <= row["top1"] <= 100 and row["mass_side_50_px"] > 0 for row in first.rows)
    assert not any(record["random"] for record in first.weights)
    drawn = miniatures._draw(first.rows).axes[1]
    assert "of 64 pixels" in drawn.get_xlabel()
    assert len(drawn.collections) == 2  # an interval each
    monkeypatch.setattr("replknet.train.train", None)  # would fail if anything were trained again
    assert miniatures._measure("dilation", networks, options).rows == first.rows
    with pytest.raises(UserError, match="is of another training"):
        miniatures._measure("dilation", networks, Options(**{**vars(options), "epochs": 2}))

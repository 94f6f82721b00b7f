"""The claim about dense prediction: its measure in closed form, its verdict, and one short fine-tuning."""

import numpy as np
import pytest
import torch
from PIL import Image

from claims.claim import Options
from claims.experiments import dense_prediction, segmentation
from claims.experiments.dense_prediction import EXPERIMENT, NETWORKS
from claims.experiments.segmentation import CLASSES, Photographs, mean_iou, resampled_iou
from runkit import UserError


@pytest.fixture
def streets(tmp_path):
    """A folder in CamVid's layout, with 8 training and 2 test images whose upper half is sky and lower half road."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        for kind in ("images", "masks"):
            (tmp_path / "camvid" / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 60, (64, 96, 3), dtype=np.uint8)
            pixels[:32, :, 2] += 180
            mask = np.full((64, 96), CLASSES.index("road"), np.uint8)
            mask[:32] = CLASSES.index("sky")
            mask[:, :4] = 11  # not labelled
            Image.fromarray(pixels).save(tmp_path / "camvid" / "images" / split / f"{number}.png")
            Image.fromarray(mask).save(tmp_path / "camvid" / "masks" / split / f"{number}.png")
    return tmp_path / "camvid"


def test_mean_iou_in_closed_form():
    """One class correct, one half confused with the first, and one absent: (2/3 + 1/2) / 2."""
    confusion = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert mean_iou(confusion) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean_iou(np.stack([confusion, 5 * confusion])) == pytest.approx([7 / 12, 7 / 12])
    assert resampled_iou(np.stack([confusion] * 4), resamples=5) == pytest.approx([7 / 12] * 5)


def rows_of_gains(large, small, *, top1=(86.0, 85.0)):
    """Rows of two networks over several seeds."""
    return [
        {"network": name, "seed": seed, "miou": miou, "top1": accuracy, "val_images": 3925}
        for name, values, accuracy in ((NETWORKS[0], large, top1[0]), (NETWORKS[-1], small, top1[1]))
        for seed, miou in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("large", "small", "holds"),
    [
        ([55.0, 55.2, 55.1], [48.0, 48.1, 48.3], True),
        ([48.0, 48.2, 48.1], [52.0, 52.1, 52.3], False),
        ([52.0, 51.2, 51.1], [50.0, 50.1, 50.3], None),
        ([55.0], [48.0], None),  # one seed decides nothing
    ],
)
def test_the_verdict_is_of_what_dense_prediction_gains_more(large, small, holds):
    verdict = EXPERIMENT.judge(rows_of_gains(large, small))
    assert verdict.holds is holds
    gain = np.mean(large) - np.mean(small)
    assert verdict.findings["gain_miou"] == pytest.approx(gain)
    assert verdict.findings["lead"]["points"] == pytest.approx(gain - 1.0)


def test_a_short_fine_tuning_learns_the_two_halves_and_is_kept(streets, tmp_path, monkeypatch):
    schedule = segmentation.Schedule(epochs=4, batch_size=4, lr=3e-3, crop=(64, 64), scales=(1.0, 1.2))
    photographs = {split: Photographs(streets, split) for split in ("train", "test")}
    assert set(photographs["train"].masks.unique().tolist()) == {0, 3, 255}
    options = Options(output=tmp_path, device="cpu")
    first = dense_prediction._confusion(NETWORKS[-1], 0, photographs, schedule, options)
    assert first.shape == (2, 11, 11)
    assert first.sum() == 2 * 64 * 92  # the pixels that are labelled
    assert np.trace(first.sum(0)) / first.sum() > 0.8
    monkeypatch.setattr(segmentation, "fine_tune", lambda *args, **kwargs: pytest.fail("trained again"))
    again = dense_prediction._confusion(NETWORKS[-1], 0, photographs, schedule, options)
    np.testing.assert_array_equal(again, first)
    with pytest.raises(UserError, match=r"another fine-tuning .*epochs"):
        dense_prediction._confusion(
            NETWORKS[-1], 0, photographs, segmentation.Schedule(epochs=7, batch_size=4, crop=(64, 64)), options
        )


def test_what_is_wrong_with_a_folder_is_said(streets, tmp_path):
    with pytest.raises(UserError, match="give --camvid DIR"):
        EXPERIMENT.measure(Options())
    with pytest.raises(UserError, match="has no photographs"):
        Photographs(tmp_path, "train")
    (streets / "masks" / "test" / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png has no mask"):
        Photographs(streets, "test")


def test_all_networks_of_the_claim_give_four_maps():
    torch.manual_seed(0)
    from replknet.zoo import load_model

    for name in NETWORKS:
        loaded = load_model(name, "pretrained")
        channels = [stage["num_chs"] for stage in loaded.model.feature_info[-4:]]
        model = segmentation.Segmenter(
            loaded.model, channels, loaded.preprocessing.mean, loaded.preprocessing.std
        ).eval()
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 60, 80)).shape == (1, len(CLASSES), 60, 80)

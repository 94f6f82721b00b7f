"""The effect of suppressions on the images: closed forms, and the actual filters."""

import numpy as np
import pytest
from PIL import Image

from shapebias.measures.reliance import Draws
from shapebias.measures.suppression_control import CONTROLS, compare_images, measure_control, measure_suppressions
from shapebias.stimuli.folders import LabelledImage
from shapebias.stimuli.suppressions import choose_variants


def share(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    compared = compare_images(before, after)
    assert list(compared) == list(CONTROLS)
    return {key: top / bottom for key, (top, bottom) in compared.items() if bottom}


def waves(period: float, amplitude: float, *, height: int = 64, width: int = 96) -> np.ndarray:
    wave = 128 + amplitude * np.sin(2 * np.pi * np.arange(width) / period)
    return np.repeat(np.tile(wave, (height, 1))[..., None], 3, axis=2).round().astype(np.uint8)


def test_an_image_keeps_all_of_itself():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    assert share(image, image) == pytest.approx(dict.fromkeys(CONTROLS, 1.0))


def test_power_goes_by_the_square_of_the_amplitude_and_gradients_by_the_amplitude():
    fine = share(waves(4, 100), waves(4, 50))
    assert fine["high_frequencies"] == pytest.approx(0.25, rel=0.02)
    assert fine["edge_strength"] == pytest.approx(0.5, rel=0.02)
    assert fine["edges_in_place"] == pytest.approx(1, abs=0.01)
    mixed = waves(4, 50).astype(int) + waves(48, 50).astype(int) - 128
    assert share(mixed.astype(np.uint8), waves(48, 50))["high_frequencies"] < 0.01  # the fine wave is gone
    assert share(mixed.astype(np.uint8), waves(4, 50))["high_frequencies"] == pytest.approx(1, rel=0.02)


def test_colour_wherever_it_is():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:10, :, 0] = 200  # red above, blue below
    image[10:, :, 2] = 200
    turned = share(image, image[::-1])
    assert (turned["chroma"], turned["colours"]) == (1, 1)
    swapped = share(image, np.roll(image, 1, axis=2))  # green above, red below
    assert (swapped["chroma"], swapped["colours"]) == (1, 0.5)
    grey = share(image, np.repeat(image.max(axis=2, keepdims=True), 3, axis=2))
    assert (grey["chroma"], grey["colours"]) == (0, 0)


def test_edges_elsewhere_are_not_in_place():
    image = np.zeros((60, 60, 3), np.uint8)
    image[:, 15] = 255
    moved = share(image, np.roll(image, 30, axis=1))
    assert moved["edge_strength"] == pytest.approx(1)
    assert moved["edges_in_place"] == pytest.approx(-2 / 56, abs=0.02)  # lines of 2 in 58 columns that do not meet


def test_images_without_colour_or_edges():
    flat = np.full((16, 16, 3), 7, np.uint8)
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8), 3, axis=2)
    variants = choose_variants(["greyscale"])[:2]
    draws = Draws.of(2, resamples=50)
    nothing = measure_control([[compare_images(flat, flat)] * 2] * 2, variants, draws=draws)
    assert [nothing[1].left[key] for key in CONTROLS if key != "colours"] == [None] * 4
    some = measure_control([[compare_images(grey, grey)] * 2] * 2, variants, draws=draws)
    assert some[1].left["chroma"] is None
    assert some[1].left["edge_strength"].value == pytest.approx(1)
    assert some[1].as_dict()["chroma_interval"] is None


def test_what_the_filters_leave_of_a_photograph(tmp_path):
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    images = []
    for index in range(3):
        scene = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        noisy = np.array(Image.fromarray(scene).resize((64, 64), Image.Resampling.NEAREST), float)
        noisy += rng.normal(0, 12, noisy.shape)
        path = tmp_path / f"{index}.png"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
        images.append(LabelledImage(path, path.name, ""))
    chosen = ["bilateral", "gaussian-blur", "greyscale", "channel-shuffle", "patch-shuffle"]
    points = measure_suppressions(images, choose_variants(chosen), size=(64, 64))
    left = {p.variant: {key: one.value for key, one in p.left.items()} for p in points}
    assert left["none"] == pytest.approx(dict.fromkeys(CONTROLS, 1.0))
    for name in ("bilateral-14", "gaussian-blur-2.33"):
        assert left[name]["high_frequencies"] < 0.6
        assert left[name]["chroma"] > 0.7
    assert left["bilateral-4"]["edges_in_place"] > left["gaussian-blur-2.33"]["edges_in_place"] > 0.4
    assert left["greyscale-1"]["chroma"] == 0
    assert left["greyscale-0.4"]["chroma"] == pytest.approx(0.6, abs=0.03)
    assert left["greyscale-1"]["edges_in_place"] > 0.99
    assert left["channel-shuffle-1"]["chroma"] == pytest.approx(1)
    assert left["patch-shuffle-8"]["colours"] == 1  # every pixel is still there
    assert left["patch-shuffle-8"]["edges_in_place"] < 0.5
    assert left["patch-shuffle-8"]["edge_strength"] > 1  # borders of patches are new edges
    assert all(p.left["edge_strength"].low <= p.left["edge_strength"].value for p in points)

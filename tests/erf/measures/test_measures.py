"""Measures of maps with closed forms."""

import numpy as np
import pytest

from erf.measures.squares import log_area, log_map, mass_area, ring_mass
from erf.measures.summary import measure


def released_rectangle(data, threshold):
    """The published definition, written out: increase i until the share is exceeded."""
    height, width = data.shape
    for i in range(1, height // 2):
        square = data[height // 2 - i : height // 2 + 1 + i, width // 2 - i : width // 2 + 1 + i]
        if square.sum() / data.sum() > threshold:
            return 2 * i + 1, (2 * i + 1) / height * (2 * i + 1) / width
    return None


def gaussian(sigma, size=256, scale=1.0):
    distance = np.arange(size) - size // 2
    profile = np.exp(-(distance**2) / (2 * sigma**2))
    return scale * profile[:, None] * profile[None, :]


@pytest.mark.parametrize("make", [lambda rng: gaussian(30), lambda rng: rng.random((128, 128)) ** 8,
                                  lambda rng: gaussian(10) + 1e-3 * rng.random((256, 256))])  # fmt: skip
def test_published_measure_is_the_released_one(make):
    contribution = make(np.random.default_rng(0)) * 50
    scores = np.log10(contribution + 1)
    scores /= scores.max()
    for area in log_area(contribution, (0.2, 0.3, 0.5, 0.9)):
        assert (area.side_px, area.ratio) == released_rectangle(scores, area.threshold)


def test_uniform_map_has_areas_equal_to_thresholds():
    for area in mass_area(np.ones((100, 100)), (0.2, 0.5, 0.9)):
        assert area.ratio > area.threshold
        assert ((area.side_px - 2) / 100) ** 2 <= area.threshold


def test_delta_is_held_by_the_smallest_square():
    contribution = np.zeros((64, 64))
    contribution[32, 32] = 5.0
    assert [area.side_px for area in mass_area(contribution)] == [3] * 5
    assert measure(contribution)["rms_radius_px"] == 0.0


def test_square_of_known_side():
    contribution = np.zeros((101, 101))
    contribution[50 - 20 : 50 + 21, 50 - 20 : 50 + 21] = 1.0
    side = {area.threshold: area.side_px for area in mass_area(contribution, (0.5, 0.999))}
    assert side == {0.5: 29, 0.999: 41}  # 29² = 841 is the first odd square above 41² / 2 = 840.5
    assert measure(contribution)["rms_radius_px"] == pytest.approx(np.sqrt(2 * 20 * 21 / 3))


def test_gaussian_has_the_side_that_the_error_function_gives():
    """A centred square with half side a holds a share erf(a / (sigma sqrt 2))² of a Gaussian."""
    from scipy.special import erf

    sigma = 25.0
    for area in mass_area(gaussian(sigma, 512), (0.2, 0.5, 0.9)):
        half = area.side_px / 2
        assert erf(half / (sigma * np.sqrt(2))) ** 2 > area.threshold
        assert erf((half - 1) / (sigma * np.sqrt(2))) ** 2 < area.threshold
    assert measure(gaussian(sigma, 512))["rms_radius_px"] == pytest.approx(sigma * np.sqrt(2), rel=1e-4)


def test_published_measure_depends_on_the_scale_and_the_other_does_not():
    published, free = set(), set()
    for scale in (0.1, 1.0, 10.0, 1e3):
        contribution = gaussian(120, 1024, scale)
        published.add(log_area(contribution, [0.5])[0].side_px)
        free.add(mass_area(contribution, [0.5])[0].side_px)
    assert len(free) == 1
    assert len(published) == 4


def test_threshold_that_is_not_reached():
    contribution = np.zeros((50, 50))
    contribution[0, 0] = 1.0  # outside every centred square
    contribution[25, 25] = 1.0
    reached, missed = mass_area(contribution, (0.4, 0.6))
    assert reached.reached
    assert not missed.reached
    assert (missed.side_px, missed.ratio) == (None, None)
    assert measure(contribution)["area_ratio"][3]["side_px"] is None


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_maps_that_are_not_square(shape):
    """Squares are cut off at the map's shorter side; in a uniform map, a share is held by an equal share of area."""
    low, high = mass_area(np.ones(shape), (0.2, 0.5))
    assert low.side_px == 27
    assert low.ratio == pytest.approx(27 * 27 / 3600)
    assert high.side_px == 47
    assert high.ratio == pytest.approx(40 * 47 / 3600)
    measured = measure(np.ones(shape))
    for share in (0.1, 0.3, 0.5, 0.9):
        assert measured.area(share) == pytest.approx(share)
    assert measured.side(0.5) == pytest.approx(45)  # 40 × 45 pixels are half of 3600
    assert measured.side(0.1) == pytest.approx(np.sqrt(360))


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_a_field_that_lies_within_a_square_has_the_same_side_in_any_image(shape):
    """The size of the image does not matter as long as the field lies within it."""
    rng = np.random.default_rng(0)
    field = np.zeros((90, 90))
    field[30:60, 30:60] = rng.random((30, 30))
    top, left = ((90 - side) // 2 for side in shape)
    cut = field[top : top + shape[0], left : left + shape[1]]
    assert cut.shape == shape
    ours, theirs = measure(cut), measure(field)
    for share in (0.2, 0.5, 0.9):
        assert ours.side(share) == pytest.approx(theirs.side(share))
    assert ours["rms_radius_px"] == pytest.approx(theirs["rms_radius_px"])
    assert ours["area_ratio"][2]["side_px"] == theirs["area_ratio"][2]["side_px"]


def test_odd_map_can_be_held_whole():
    assert mass_area(np.ones((33, 33)), [0.99])[0].side_px == 33


def test_ring_mass_adds_up():
    values = np.random.default_rng(0).random((30, 44))
    rings = ring_mass(values)
    assert rings.sum() == pytest.approx(values.sum())
    assert rings[0] == values[15, 22]
    assert rings[:4].sum() == pytest.approx(values[12:19, 19:26].sum())


def test_log_map_is_the_published_transform():
    values = np.array([[0.0, 9.0, 0.0]] * 3)
    np.testing.assert_allclose(log_map(values), np.array([[0.0, 1.0, 0.0]] * 3))


@pytest.mark.parametrize(
    ("contribution", "message"),
    [
        (np.zeros((8, 8)), "zero everywhere"),
        (np.full((8, 8), np.nan), "64 values that are not finite"),
        (-np.ones((8, 8)), "negative"),
        (np.ones(8), "two dimensions"),
        (np.ones((2, 8)), "at least 3 pixels"),
    ],
)
def test_maps_that_cannot_be_measured(contribution, message):
    with pytest.raises(ValueError, match=message):
        measure(contribution)


def test_threshold_out_of_range():
    with pytest.raises(ValueError, match="between 0 and 1"):
        mass_area(np.ones((8, 8)), [1.0])

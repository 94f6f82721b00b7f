"""Extent and shape of maps with closed forms."""

import numpy as np
import pytest

from erf.measures.centred import CentredSquares, whole_side
from erf.measures.extent import second_moments
from erf.measures.squares import log_area, mass_area
from erf.measures.summary import measure
from erf.measures.sums import map_sums


def grid(size):
    """Distances (down, right) from the centre pixel."""
    distance = np.arange(size, dtype=float) - size // 2
    return distance[:, None], distance[None, :]


def gaussian(sigma, size=513, *, down=0.0, right=0.0):
    y, x = grid(size)
    return np.exp(-((y - down) ** 2 + (x - right) ** 2) / (2 * sigma**2))


def disc(radius, size=513):
    y, x = grid(size)
    return (y**2 + x**2 <= radius**2).astype(float)


def ring(radius, width, size=513):
    y, x = grid(size)
    return (np.abs(np.hypot(y, x) - radius) <= width / 2).astype(float)


def square(half, size=513):
    y, x = grid(size)
    return (np.maximum(np.abs(y), np.abs(x)) <= half).astype(float)


def tilted(major, minor, degrees, size=513):
    """A Gaussian whose long axis is turned anticlockwise from the horizontal, as displayed."""
    y, x = grid(size)
    angle = np.radians(degrees)
    along, beside = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return np.exp(-(along**2) / (2 * major**2) - beside**2 / (2 * minor**2))


def interpolated(results):
    return {area["threshold"]: area["side_interpolated_px"] for area in results["mass_area_ratio"]}


def test_gaussian():
    from scipy.special import erfinv

    sigma = 40.0
    results = measure(gaussian(sigma))
    for threshold, side in interpolated(results).items():
        assert side == pytest.approx(2 * np.sqrt(2) * sigma * erfinv(np.sqrt(threshold)), rel=2e-3)
    assert results["rms_radius_px"] == pytest.approx(np.sqrt(2) * sigma, rel=1e-6)
    assert results["sigma_major_px"] == pytest.approx(sigma, rel=1e-6)
    assert results["anisotropy"] == pytest.approx(1.0)
    assert results["orientation_deg"] is None
    assert results["participation_area_of_mean_map_px"] == pytest.approx(4 * np.pi * sigma**2, rel=1e-6)
    assert results["entropy_area_of_mean_map_px"] == pytest.approx(2 * np.pi * np.e * sigma**2, rel=1e-5)
    fit = results["gaussian"]
    assert fit["gaussian_sigma_px"] == pytest.approx(sigma, rel=1e-4)
    assert fit["gaussian_r2"] == pytest.approx(1.0, abs=1e-6)
    assert fit["mass_beyond_2_sigma"] == pytest.approx(np.exp(-2), abs=1e-4)
    assert fit["fit_mass_beyond_2_sigma"] == pytest.approx(np.exp(-2), abs=1e-4)
    assert fit["excess_kurtosis"] == pytest.approx(0.0, abs=1e-4)
    assert fit["is_gaussian"] is True
    density = dict(zip(results["radial_profile"]["radius_px"], results["radial_profile"]["density"], strict=True))
    for radius in (r for r in density if r < 120):
        assert density[radius] == pytest.approx(
            513**2 / (2 * np.pi * sigma**2) * np.exp(-(radius**2) / (2 * sigma**2)), rel=2e-2
        )


def test_gaussian_wider_than_the_image_is_still_one():
    fit = measure(gaussian(150.0, 257))["gaussian"]
    assert fit["gaussian_sigma_px"] == pytest.approx(150.0, rel=1e-3)
    assert fit["fit_mass_beyond_2_sigma"] == pytest.approx(0.0, abs=1e-6)  # two widths are beyond the image
    assert fit["is_gaussian"] is True


def test_disc():
    """The Gaussian fit has sigma = R / sqrt(2u), where 2u exp(-u) = 1 - exp(-u), and explains 2(1 - exp(-u))²/u."""
    radius, u = 60.4999, 1.256431  # the edge lies between two circular rings
    results = measure(disc(radius))
    assert results["participation_area_of_mean_map_px"] == pytest.approx(np.pi * radius**2, rel=2e-3)
    assert results["entropy_area_of_mean_map_px"] == pytest.approx(np.pi * radius**2, rel=2e-3)
    assert results["rms_radius_px"] == pytest.approx(radius / np.sqrt(2), rel=2e-3)
    assert results["gaussian"]["excess_kurtosis"] == pytest.approx(-8 / 3, abs=5e-3)
    assert results["gaussian"]["gaussian_sigma_px"] == pytest.approx(radius / np.sqrt(2 * u), rel=3e-3)
    size, covered = 513**2, np.pi * radius**2  # the variance is about the mean, the fit is not
    explained = 2 * (1 - np.exp(-u)) ** 2 / u
    assert results["gaussian"]["gaussian_r2"] == pytest.approx(1 - (1 - explained) / (1 - covered / size), abs=3e-3)
    assert results["gaussian"]["mass_beyond_2_sigma"] == pytest.approx(0.0, abs=1e-9)
    assert results["gaussian"]["is_gaussian"] is False


def test_square():
    results = measure(square(50))
    for threshold, side in interpolated(results).items():
        assert side == pytest.approx(101 * np.sqrt(threshold), rel=1e-12)
    assert results["participation_area_of_mean_map_px"] == pytest.approx(101**2)
    assert results["sigma_major_px"] == pytest.approx(np.sqrt((101**2 - 1) / 12))
    assert results["gaussian"]["excess_kurtosis"] == pytest.approx(2 * 1.8 + 2 - 8, abs=1e-3)
    assert results["gaussian"]["is_gaussian"] is False


def test_ring():
    radius = 80.0
    results = measure(ring(radius, 3))
    assert results["rms_radius_px"] == pytest.approx(radius, rel=2e-3)
    assert results["gaussian"]["excess_kurtosis"] == pytest.approx(-4.0, abs=1e-2)
    assert results["gaussian"]["is_gaussian"] is False
    profile = results["radial_profile"]
    assert 75 <= profile["radius_px"][int(np.argmax(profile["density"]))] <= 85


def test_exponential_is_no_gaussian_by_its_tail():
    y, x = grid(513)
    fit = measure(np.exp(-np.hypot(y, x) / 20))["gaussian"]
    assert fit["gaussian_r2"] > 0.95
    assert fit["mass_beyond_2_sigma"] > 2 * fit["fit_mass_beyond_2_sigma"]
    assert fit["is_gaussian"] is False


def test_even_map():
    results = measure(np.full((101, 101), 7.0))
    for area in results["mass_area_ratio"]:
        assert area["ratio_interpolated"] == pytest.approx(area["threshold"], rel=1e-12)
    assert results["participation_area_of_mean_map_px"] == pytest.approx(101**2)
    assert results["entropy_area_of_mean_map_px"] == pytest.approx(101**2)
    assert set(np.round(results["radial_profile"]["density"], 12)) == {1.0}
    assert results["gaussian"]["gaussian_sigma_px"] is None
    assert results["gaussian"]["gaussian_r2"] is None
    assert results["gaussian"]["is_gaussian"] is False
    curve = results["mass_curve"]
    np.testing.assert_allclose(curve["share"], (np.array(curve["side_px"]) / 101) ** 2, rtol=1e-12)


def test_single_pixel():
    values = np.zeros((65, 65))
    values[32, 32] = 3.0
    results = measure(values)
    assert interpolated(results) == {t: pytest.approx(np.sqrt(t)) for t in (0.2, 0.3, 0.5, 0.9, 0.99)}
    assert results["participation_area_of_mean_map_px"] == results["entropy_area_of_mean_map_px"] == 1.0
    assert results["rms_radius_px"] == results["sigma_major_px"] == 0.0
    assert results["anisotropy"] is results["orientation_deg"] is results["gaussian"]["excess_kurtosis"] is None
    assert results["gaussian"]["is_gaussian"] is False


@pytest.mark.parametrize("degrees", [0, 30, 90, -45, -80])
def test_tilted_gaussian(degrees):
    results = measure(tilted(50, 20, degrees))
    assert results["orientation_deg"] == pytest.approx(degrees, abs=0.05)
    assert results["anisotropy"] == pytest.approx(2.5, rel=1e-3)
    assert results["sigma_major_px"] == pytest.approx(50, rel=1e-3)
    assert results["sigma_minor_px"] == pytest.approx(20, rel=1e-3)
    assert results["gaussian"]["excess_kurtosis"] == pytest.approx(0.0, abs=2e-2)  # of any covariance


def test_off_centre():
    results = measure(gaussian(20, down=12, right=-5))
    assert results["offset_down_px"] == pytest.approx(12)
    assert results["offset_right_px"] == pytest.approx(-5)
    assert results["offset_px"] == pytest.approx(13)
    assert results["sigma_major_px"] == pytest.approx(20, rel=1e-6)
    assert results["rms_radius_px"] == pytest.approx(np.sqrt(2 * 20**2 + 13**2), rel=1e-6)
    moved = measure(gaussian(20, down=12, right=-5), centre=(513 // 2 + 12, 513 // 2 - 5))
    assert interpolated(moved) == pytest.approx(interpolated(measure(gaussian(20))), rel=1e-6)


def test_measures_are_free_of_the_scale():
    values = gaussian(20, 129) + 0.1 * np.random.default_rng(0).random((129, 129))
    small, large = measure(values * 1e-6), measure(values * 1e3)
    for name in ("rms_radius_px", "anisotropy", "offset_px", "entropy_area_of_mean_map_px"):
        assert small[name] == pytest.approx(large[name])
    assert small["mass_curve"]["share"] == pytest.approx(large["mass_curve"]["share"])
    assert small["gaussian"] == pytest.approx(large["gaussian"])
    assert small["area_ratio"] != large["area_ratio"]


def test_published_ratio_under_scaling():
    """The published ratio of a Gaussian increases from .06 for a peak of .1 to .33 for a peak of a million."""
    ratios = [log_area(peak * gaussian(120, 1024), [0.5])[0].ratio for peak in (0.1, 1e6)]
    assert [round(ratio, 2) for ratio in ratios] == [0.06, 0.33]
    peak = 10.0
    results = measure(peak * gaussian(120, 1024))
    scaled = {
        entry["factor"]: {area["threshold"]: area["ratio"] for area in entry["area_ratio"]}
        for entry in results["area_ratio_if_scaled"]
    }
    assert list(scaled) == [0.1, 0.3, 1.0, 3.0, 10.0]
    assert scaled[1.0] == {area["threshold"]: area["ratio"] for area in results["area_ratio"]}
    assert [round(scaled[factor][0.5], 2) for factor in (0.1, 1.0, 10.0)] == [0.07, 0.1, 0.14]


def test_sides_between_and_of_whole_pixels():
    squares = CentredSquares.around((7, 7))
    shares = squares.shares(np.array([[1.0, 8.0, 16.0, 24.0]]))  # an even map
    np.testing.assert_allclose(shares[0], np.array([1, 9, 25, 49]) / 49)
    np.testing.assert_allclose(squares.interpolated_side(shares, [4 / 49, 9 / 49, 1.0])[0], [2, 3, 7])
    np.testing.assert_allclose(whole_side(shares, [1 / 490, 9 / 49, 0.999])[0], [3, 5, 7])
    squares = CentredSquares.around((4, 4))
    beyond = squares.shares(np.array([[1.0, 1.0, 2.0]]))  # the last ring leaves the map
    assert np.isnan(squares.interpolated_side(beyond, [0.6])).all()
    assert np.isnan(whole_side(beyond, [0.6])).all()


@pytest.mark.parametrize("shape", [(30, 30), (31, 31), (20, 45), (33, 12)])
@pytest.mark.parametrize("at", [(0.0, 0.0), (0.1, 0.5), (0.9, 0.2), (0.999, 0.999)])
def test_squares_around_any_pixel_are_cut_off_where_they_leave_the_map(shape, at):
    """A uniform map holds each share in that share of its area, and squares are those of a count of pixels."""
    centre = tuple(int(part * n) for part, n in zip(at, shape, strict=True))
    uniform = np.ones(shape)
    measured = measure(uniform, map_sums(uniform, centre), centre=centre)
    for share in (0.01, 0.2, 0.5, 0.9, 0.999):
        assert float(measured.area(share)) == pytest.approx(share, rel=1e-9)
    bumpy = np.random.default_rng(0).random(shape) ** 4
    down, across = (np.abs(np.arange(n) - c) for n, c in zip(shape, centre, strict=True))
    distance = np.maximum(down[:, None], across[None, :])
    for area in mass_area(bumpy, [0.2, 0.5, 0.9, 0.99], centre=centre):
        inside = distance <= area.side_px // 2
        assert bumpy[inside].sum() > area.threshold * bumpy.sum() >= bumpy[distance < area.side_px // 2].sum()
        assert area.ratio == pytest.approx(inside.mean())


@pytest.mark.parametrize("pixel", [(0, 0), (14, 14), (3, 11), (7, 7)])
@pytest.mark.parametrize("value", [0.01, 0.1, 3.0])
def test_single_pixel_anywhere_has_no_spread(pixel, value):
    """Its moments cancel to rounding errors, of either sign."""
    contribution = np.zeros((15, 15))
    contribution[pixel] = value
    moments = second_moments(map_sums(contribution).moments)
    assert moments.sigma_major_px == moments.sigma_minor_px == 0
    assert np.isnan(moments.anisotropy)
    assert np.isnan(moments.excess_kurtosis)


@pytest.mark.parametrize("peak", [1e-3, 1e-15, 1e-30])
def test_the_published_ratio_tends_to_that_of_the_map_as_gradients_vanish(peak):
    bell = gaussian(20, 129)
    shares = [0.2, 0.5, 0.9]
    assert log_area(peak * bell, shares) == mass_area(bell, shares)

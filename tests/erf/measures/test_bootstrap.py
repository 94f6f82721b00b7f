"""Intervals over images: they have their nominal coverage, and differences are paired."""

import numpy as np
import pytest

from erf.measures.blocks import entropy_area, measure_blocks, participation_area
from erf.measures.bootstrap import Resampled, choices
from erf.measures.centred import CentredSquares
from erf.measures.extent import second_moments
from erf.measures.squares import ring_mass
from erf.measures.summary import measure
from erf.measures.sums import MapSums, map_sums, stack_sums

SIZE = 33
CENTRE = (SIZE // 2, SIZE // 2)


def random_maps(rng, count, *, noise=1.0):
    """Fields of random size, place and mass with pixel noise like that of gradients."""
    distance = np.arange(SIZE) - SIZE // 2
    sigma = rng.uniform(3, 7, (count, 1, 1))
    down, right = rng.normal(0, 1.5, (2, count, 1, 1))
    squared = (distance[:, None] - down) ** 2 + (distance[None, :] - right) ** 2
    field = rng.lognormal(0, 0.4, (count, 1, 1)) * np.exp(-squared / (2 * sigma**2))
    return field * rng.gamma(1 / noise, noise, (count, SIZE, SIZE)) if noise else field


def sums_of(maps):
    return stack_sums([map_sums(m) for m in maps])


def test_choices_hold_every_image_evenly_and_are_the_same_again():
    weights = choices(7, resamples=100)
    assert weights.shape == (101, 7)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights[0], 1 / 7)
    assert np.array_equal(weights, choices(7, resamples=100))
    assert not np.array_equal(weights, choices(7, resamples=100, seed=1))


def test_interval_of_a_mean_is_that_of_student():
    values = np.random.default_rng(0).normal(10, 2, 50)
    weights = choices(50, resamples=20_000)
    low, high = Resampled(weights[0] @ values, weights[1:] @ values, 50).interval()
    half = 2.0096 * values.std(ddof=1) / np.sqrt(50)
    assert (low, high) == (
        pytest.approx(values.mean() - half, abs=0.05 * half),
        pytest.approx(values.mean() + half, abs=0.05 * half),
    )


def test_intervals_cover_the_truth():
    """Over 500 draws of 40 images from a population with known measures, 95% ± 2 of the intervals contain these."""
    rng = np.random.default_rng(0)
    population = sums_of(random_maps(rng, 4000, noise=0))

    def measures(weights, sums):
        squares = CentredSquares.around((SIZE, SIZE))
        side = squares.interpolated_side(squares.shares(weights @ sums.rings), [0.5])[:, 0]
        moments = second_moments(weights @ sums.moments)
        return np.column_stack([side, moments.rms_radius_px, moments.offset_down_px, moments.sigma_major_px])

    truth = measures(np.full((1, 4000), 1 / 4000), population)[0]
    weights, hits, draws = choices(40, resamples=1000), np.zeros(4), 500
    for _ in range(draws):
        drawn = rng.integers(0, 4000, 40)
        sums = MapSums(*(array[drawn] for array in population.as_arrays().values()))
        values = measures(weights, sums)
        low, high = Resampled(values[0], values[1:], 40).interval()
        hits += (low <= truth) & (truth <= high)
    assert np.all(np.abs(hits / draws - 0.95) <= 0.02), hits / draws


def test_the_noise_of_a_mean_is_taken_out_of_its_areas():
    """The areas of a mean of 20 noisy maps are too small by a tenth or more; the reported ones are corrected."""
    rng = np.random.default_rng(0)
    without_noise = random_maps(rng, 1, noise=0)[0]
    truth = np.array([participation_area(without_noise), entropy_area(without_noise)])
    plain, reported = [], []
    for _ in range(40):
        maps = without_noise * rng.gamma(1.0, 1.0, (20, SIZE, SIZE))
        blocks = measure_blocks(maps.mean(0), sums_of(maps), choices(20, resamples=200), CENTRE)
        plain.append([participation_area(maps.mean(0)), entropy_area(maps.mean(0))])
        reported.append([blocks.participation_area_px[0], blocks.entropy_area_px[0]])
    ratio = np.mean(plain, 0) / truth
    assert ratio[0] == pytest.approx(1 / (1 + 1 / 20), abs=0.01)  # the variance of a mean of exponentials
    assert ratio[1] == pytest.approx(np.exp(-1 / 40), abs=0.01)
    np.testing.assert_allclose(np.mean(reported, 0), truth, rtol=0.01)


def test_resampled_areas_are_those_of_resampled_maps():
    """With blocks of one pixel, there is no approximation except for the noise, which is removed."""
    rng = np.random.default_rng(0)
    maps = random_maps(rng, 12, noise=0)
    weights = choices(12, resamples=50)
    blocks = measure_blocks(maps.mean(0), sums_of(maps), weights, CENTRE)
    for row in (0, 1, 17):
        resampled = np.tensordot(weights[row], maps, 1)
        np.testing.assert_allclose(blocks.log_rings[row], ring_mass(np.log10(resampled + 1)), rtol=1e-5)
    exact = np.array([participation_area(np.tensordot(w, maps, 1)) for w in weights[1:]])
    assert np.corrcoef(blocks.participation_area_px[1:], exact)[0, 1] > 0.999


@pytest.mark.parametrize(("images", "distinct"), [(2, 3), (4, 35), (9, 300)])
def test_resamples_that_repeat_take_their_logarithms_once(images, distinct, monkeypatch):
    """Few images have few distinct resamples; repeated ones are reused and bit-identical."""
    maps = random_maps(np.random.default_rng(0), images)
    given = maps.mean(0), sums_of(maps), choices(images, resamples=299), CENTRE
    rows, log1p = [], np.log1p
    monkeypatch.setattr(np, "log1p", lambda x: rows.append(len(x)) or log1p(x))
    monkeypatch.setattr("erf.measures.blocks._repeats", lambda weights: True)
    known = measure_blocks(*given)
    # the first two are of the map; a matrix product may round a row otherwise at the end of a batch
    assert sum(rows[2:]) <= 2 * distinct
    monkeypatch.setattr("erf.measures.blocks._repeats", lambda weights: False)
    for name, values in vars(measure_blocks(*given)).items():
        assert np.array_equal(getattr(known, name), values, equal_nan=True)


def test_every_measure_has_an_interval_around_it():
    maps = random_maps(np.random.default_rng(0), 20)
    measured = measure(maps.mean(0), sums_of(maps), theoretical_side=31.0)
    for name, value in measured.values.items():
        low, high = value.interval()
        if name == "area_ratio":  # 99% is held by the largest square alone, or by none
            low, high, estimate = low[:3], high[:3], value.estimate[:3]
        else:
            estimate = value.estimate
        assert np.all(low <= estimate), name
        assert np.all(estimate <= high), name
        assert np.all(np.isfinite(high - low)), name


def test_the_same_field_twice_differs_by_nothing_and_paired_is_tighter():
    rng = np.random.default_rng(0)
    maps = random_maps(rng, 20)
    first = measure(maps.mean(0), sums_of(maps)).values["rms_radius_px"]
    assert np.array_equal((first - first).interval(), [0.0, 0.0])
    wider = maps.repeat(1, axis=0) * np.linspace(1, 1.5, SIZE)[None, None, :]
    second = measure(wider.mean(0), sums_of(wider)).values["rms_radius_px"]
    paired, single = np.diff((second - first).interval()), np.diff(first.interval())
    assert paired < 0.5 * single
    fewer = measure(maps[:9].mean(0), sums_of(maps[:9])).values["rms_radius_px"]
    with pytest.raises(ValueError, match="20 and 9 images"):
        first - fewer


@pytest.mark.parametrize("count", [0, 1])
def test_without_images_to_choose_from_there_is_no_interval(count):
    maps = random_maps(np.random.default_rng(0), 1)
    results = measure(maps[0], sums_of(maps) if count else None)
    assert results["interval"] is None
    assert results["rms_radius_px"] > 0
    assert results["rms_radius_px_interval"] is None
    assert results["mass_area_ratio"][0]["ratio_interpolated_interval"] is None
    assert results["participation_area_px"] is None  # it needs the scatter of the images
    assert results["participation_area_of_mean_map_px"] > 0


def test_values_that_are_not_reached_count_as_larger():
    value = Resampled(np.array(5.0), np.concatenate([np.full(1000, 4.0), np.full(1000, np.nan)]), 20)
    low, high = value.interval()
    assert low == 4.0
    assert np.isnan(high)

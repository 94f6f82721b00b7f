"""Properties of the measures of all contribution maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from erf.measures.extent import second_moments
from erf.measures.squares import log_area, mass_area, ring_mass
from erf.measures.sums import map_sums

SIDES = st.sampled_from([(9, 9), (15, 15), (12, 12), (9, 14)])
VALUES = st.floats(0, 1e6, allow_subnormal=False).map(lambda x: x if x > 1e-6 else 0.0)
MAPS = SIDES.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=VALUES)).filter(np.any)
SQUARE_ODD_MAPS = hnp.arrays(np.float64, (11, 11), elements=VALUES).filter(np.any)
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.9, 0.99)
several = settings(max_examples=60, deadline=None)


def rms_radius(contribution):
    return float(second_moments(map_sums(contribution).moments).rms_radius_px[0])


def sides(contribution, area=mass_area):
    """Sides of the squares; infinity if no square holds enough."""
    return [np.inf if a.side_px is None else a.side_px for a in area(contribution, THRESHOLDS)]


@several
@given(MAPS, st.integers(-20, 20))
def test_squares_on_the_score_do_not_depend_on_its_scale(contribution, power):
    # by powers of two, which round nothing
    assert sides(contribution * 2.0**power) == sides(contribution)
    assert rms_radius(contribution * 2.0**power) == pytest.approx(rms_radius(contribution), rel=1e-12)


@several
@given(SQUARE_ODD_MAPS.map(np.round), st.sampled_from(range(8)))
def test_turning_or_mirroring_a_map_changes_no_measure(contribution, way):
    """A map with odd sides has its centre in the middle, and integers add up exactly in any order."""
    if not contribution.any():
        return
    turned = np.rot90(contribution if way < 4 else contribution.T, way % 4)
    assert sides(turned) == sides(contribution)
    np.testing.assert_array_equal(ring_mass(turned), ring_mass(contribution))
    assert rms_radius(turned) == pytest.approx(rms_radius(contribution), rel=1e-12)


@several
@given(MAPS)
def test_a_higher_share_never_has_a_smaller_square(contribution):
    for area in (mass_area, log_area):
        found = sides(contribution, area)
        assert found == sorted(found)


@several
@given(MAPS)
def test_a_square_holds_its_share_and_the_next_smaller_one_does_not(contribution):
    held = np.cumsum(ring_mass(contribution)) / ring_mass(contribution).sum()
    for threshold, side in zip(THRESHOLDS, sides(contribution), strict=True):
        if side < np.inf:
            assert held[side // 2] > threshold - 1e-12
        if 3 < side < np.inf:
            assert held[side // 2 - 1] <= threshold + 1e-12


@several
@given(MAPS)
def test_bounds(contribution):
    height, width = contribution.shape
    for area in mass_area(contribution, THRESHOLDS):
        if area.reached:
            assert 3 <= area.side_px <= max(height, width)
            inside = min(area.side_px, height) * min(area.side_px, width)  # a square is cut off at the shorter side
            assert area.ratio == pytest.approx(inside / (height * width), rel=1e-12)
    assert 0 <= rms_radius(contribution) <= np.hypot(height // 2, width // 2) * (1 + 1e-12)
    assert ring_mass(contribution).sum() == pytest.approx(contribution.sum(), rel=1e-9)


@several
@given(MAPS, st.floats(0.0, 1e6))
def test_more_in_the_centre_makes_no_square_larger(contribution, more):
    height, width = contribution.shape
    fuller = contribution.copy()
    fuller[height // 2, width // 2] += more
    assert all(new <= old for new, old in zip(sides(fuller), sides(contribution), strict=True))

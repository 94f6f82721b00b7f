"""Sums of each image's map: correct for maps with known sums, and linear in the map."""

import numpy as np
import pytest

from erf.measures.sums import MAX_BLOCKS, MOMENTS, block_edges, map_sums, stack_sums


def test_a_single_pixel_is_counted_at_its_place():
    values = np.zeros((64, 80))
    values[32 - 4, 40 + 3] = 2.0  # four pixels up, three to the right: distance 5
    sums = map_sums(values)
    assert np.flatnonzero(sums.rings[0]).tolist() == [4]
    assert np.flatnonzero(sums.annuli[0]).tolist() == [5]
    assert dict(zip(MOMENTS, sums.moments[0], strict=True)) == {(p, q): 2.0 * (-4) ** p * 3**q for p, q in MOMENTS}
    assert np.argwhere(sums.shares[0]).tolist() == [[28, 43]]
    assert sums.shares.max() == 1.0


def test_any_other_centre():
    values = np.zeros((40, 40))
    values[10, 30] = 1.0
    sums = map_sums(values, (10, 30))
    assert sums.rings[0, 0] == sums.annuli[0, 0] == 1.0
    assert not sums.moments[0, 1:].any()


@pytest.mark.parametrize("shape", [(33, 33), (300, 129), (1024, 1000)])
def test_every_pixel_is_counted_once(shape):
    values = np.random.default_rng(0).random(shape)
    sums = map_sums(values)
    assert sums.mass[0] == pytest.approx(values.sum())
    assert sums.rings.sum() == pytest.approx(values.sum())
    assert sums.annuli.sum() == pytest.approx(values.sum())
    assert sums.shares.sum() == pytest.approx(1.0, rel=1e-5)
    assert sums.squares.sum() == pytest.approx((values**2).sum() / values.sum() ** 2, rel=1e-5)
    assert max(sums.shares.shape) <= MAX_BLOCKS


def test_blocks_cover_a_side():
    assert block_edges(1024).tolist() == list(range(0, 1025, 8))
    assert block_edges(130).tolist() == [*range(0, 130, 2), 130]
    assert block_edges(131)[-2:].tolist() == [130, 131]  # the last block is short
    assert block_edges(5).tolist() == [0, 1, 2, 3, 4, 5]


def test_sums_of_a_weighted_mean_are_the_weighted_mean_of_sums():
    rng = np.random.default_rng(0)
    maps, weights = rng.random((3, 50, 60)), np.array([0.2, 0.5, 0.3])
    each, whole = stack_sums([map_sums(m) for m in maps]), map_sums(np.tensordot(weights, maps, 1))
    for name in ("rings", "annuli", "moments"):
        np.testing.assert_allclose(weights @ getattr(each, name), getattr(whole, name)[0], rtol=1e-10, atol=1e-7)
    blocks = np.tensordot(weights * each.mass, each.shares, 1)
    np.testing.assert_allclose(blocks / whole.mass[0], whole.shares[0], rtol=1e-5)


def test_a_map_of_zeros_has_sums_of_zero():
    assert not any(array.any() for array in map_sums(np.zeros((8, 8))).as_arrays().values())

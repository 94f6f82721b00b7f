"""As many images as needed: when to stop, and the effect of stopping on the interval."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import special

from erf.measures import stopping
from erf.measures.centred import CentredSquares
from erf.measures.stopping import half_side, is_narrow, shuffled
from erf.measures.summary import measure
from erf.measures.sums import map_sums, stack_sums
from erf.measures.value import Value
from erf.until import MIN_IMAGES, read_share

SHAPE = (39, 39)
SQUARES = CentredSquares.around(SHAPE)


def random_rings(rng, count):
    """Ring sums of round Gaussian fields of random width and mass."""
    sigma, mass = rng.uniform(2, 6, (count, 1)), rng.lognormal(0, 0.4, (count, 1))
    held = special.erf((np.arange(SHAPE[0] // 2 + 1) + 0.5) / (np.sqrt(2) * sigma)) ** 2
    return mass * np.diff(held, axis=1, prepend=0)


@pytest.mark.parametrize(("shape", "centre"), [((21, 21), (10, 10)), ((12, 30), (6, 15)), ((21, 21), (0, 4))])
def test_it_is_the_interval_that_the_result_has(shape, centre):
    maps = np.random.default_rng(0).random((11, *shape)) ** 8
    sums = stack_sums([map_sums(one, centre) for one in maps])
    ours = half_side(sums.rings, CentredSquares.around(shape, centre))
    theirs = measure(maps.mean(0), sums, centre=centre).side(0.5)
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert ours.interval == pytest.approx(theirs.interval, rel=1e-12)


def test_narrow_is_less_than_the_share_of_the_side():
    assert is_narrow(Value(10, 9.8, 10.2), 0.05)
    assert not is_narrow(Value(10, 9.7, 10.3), 0.05)
    assert not is_narrow(Value(10), 0.05)
    assert not is_narrow(Value(float("nan"), 1, 1), 0.05)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 12.5% ", 0.125)])
def test_shares_are_read(text, share):
    assert read_share(text) == share


@pytest.mark.parametrize("text", ["5", "0", "100%", "-5%", "5%%", "five", "nan", ""])
def test_other_words_are_no_shares(text):
    with pytest.raises(ValueError, match=r"is not a share between 0 and 1; write 5% or 0\.05"):
        read_share(text)


def test_the_order_is_shuffled_and_the_same_again():
    assert shuffled(20) == shuffled(20)
    assert sorted(shuffled(20)) == list(range(20)) != list(shuffled(20))


def test_what_stopping_does_to_an_interval(monkeypatch):
    """The documentation states these numbers: 95% intervals cover the truth in about 90% of the runs that stop."""
    monkeypatch.setattr(stopping, "choices", lru_cache(stopping.choices))
    truth = float(half_side(random_rings(np.random.default_rng(99), 100_000).mean(0)[None], SQUARES, resamples=2))
    runs, stopped, fixed = 150, [], []
    for seed in range(runs):
        rings = random_rings(np.random.default_rng(seed), 100)
        sides = (half_side(rings[:count], SQUARES, resamples=300) for count in range(MIN_IMAGES, 101))
        stopped.append(next(side for side in sides if is_narrow(side, 0.3)))
        fixed.append(half_side(rings[:25], SQUARES, resamples=300))
    after_stopping, of_all = (sum(side.low <= truth <= side.high for side in some) / runs for some in (stopped, fixed))
    assert 0.86 < after_stopping < 0.94
    assert 0.93 < of_all < 0.99

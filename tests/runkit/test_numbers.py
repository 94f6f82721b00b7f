"""Numbers with an interval: the number of digits is determined by half of the interval."""

import pytest

from runkit.numbers import DIFFERENCE, FRACTION, Form, difference_cells

PERCENT = Form(1, factor=100, unit="%")


@pytest.mark.parametrize(
    ("form", "numbers", "text"),
    [
        (PERCENT, (0.00132, 0.00108, 0.00165), "0.132% [0.108%, 0.165%]"),
        (PERCENT, (0.046, 0.034, 0.054), "4.6% [3.4%, 5.4%]"),
        (PERCENT, (0.018, 0.0149, 0.0217), "1.80% [1.49%, 2.17%]"),
        (PERCENT, (0.05, None, None), "5.0%"),
        (PERCENT, (None, None, None), "–"),
        (PERCENT, (0.05, 0.04, None), "5.0% [4.0%, –]"),
        (FRACTION, (0.239, 0.17, 0.317), "0.239 [0.170, 0.317]"),
        (FRACTION, (0.9981, 0.9978, 0.9984), "0.99810 [0.99780, 0.99840]"),
        (FRACTION, (1.0, 1.0, 1.0), "1.000 [1.000, 1.000]"),
        (FRACTION, (0.5, 0.5 - 1e-12, 0.5 + 1e-12), "0.5000000 [0.5000000, 0.5000000]"),  # at most four more
        (DIFFERENCE, (0.02, -0.05, 0.09), "+0.020 [-0.050, +0.090]"),
        (Form(0), (11004.2, 8955.0, 13648.0), "11004 [8955, 13648]"),
        (Form(2), (float("nan"), float("nan"), float("nan")), "nan [nan, nan]"),
    ],
)
def test_half_of_the_interval_shows_two_digits(form, numbers, text):
    assert str(form.write(*numbers)) == text


def test_parts_for_tables():
    assert difference_cells(0.0012, 0.0008, 0.0016) == ("+0.00120", "[+0.00080, +0.00160]")
    assert FRACTION.write(0.5).brackets == ""
    assert FRACTION(0.25) == "0.250"

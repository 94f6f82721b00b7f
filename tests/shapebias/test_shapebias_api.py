"""Shape bias from Python: any `nn.Module`, decisions made elsewhere, and the display in a notebook."""

import pytest
import torch
from torch import nn

import shapebias


class Grey(nn.Module):
    """A network that chooses a class by the grey level of the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 1000)
        logits[:, 291] = 1e3 * x.mean(dim=(1, 2, 3))
        return logits


def test_a_plain_module_is_measured(benchmark_folder):
    stimuli = shapebias.read_stimuli(benchmark_folder)[::80]
    observer = shapebias.evaluate(Grey().eval(), stimuli, name="grey")
    assert len(observer.trials) == len(stimuli) == 16
    measured = shapebias.measure(observer)
    assert measured.trials == 16
    assert repr(measured).startswith("Measurement(grey, 16 trials, shape bias ")


def test_decisions_alone_are_measured():
    decisions = {"cat1-dog1.png": "cat", "cat2-dog2.png": "dog", "dog1-cat3.png": "dog", "bear1-cat1.png": "boat"}
    measured = shapebias.measure(decisions)
    assert measured.shape_bias.value == pytest.approx(2 / 3)
    assert "shape bias 0.667" in repr(measured)
    table = measured._repr_html_()
    assert '<td style="text-align: left">shape bias</td>' in table
    assert "shape reciprocal rank" not in table  # not known from decisions
    with pytest.raises(ValueError, match="unknown answer 'lion'"):
        shapebias.measure({"cat1-dog1.png": "lion"})


def test_a_comparison_is_shown_as_a_table(make_observer):
    names = ["cat1-dog1.png", "cat2-dog2.png", "dog1-cat3.png", "dog2-cat2.png"]
    observers = [make_observer(dict.fromkeys(names, answer), name=f"<{answer}>") for answer in ("cat", "dog")]
    comparison = shapebias.compare(observers)
    assert repr(comparison) == "Comparison of <cat>, <dog>"
    table = comparison._repr_html_()
    assert table.count("<tr>") == 3
    assert "&lt;cat&gt;" in table
    assert "0.500" in table

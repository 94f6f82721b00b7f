"""Costs: counts of multiplications are exact, and time and memory are linear."""

import subprocess
import sys

import pytest
import torch
from support import ROOT
from torch import nn

from runkit.compute.probe import Probe, count_macs, extrapolate


@pytest.mark.filterwarnings("ignore:cuDNN cannot be used")  # PyTorch 2.6 on the map of 50,000 pixels a side
def test_multiplications_of_a_convolution():
    layer = nn.Conv2d(3, 8, 5, padding=2, bias=False)
    macs = count_macs(lambda: layer(torch.empty(2, 3, 16, 20)))
    assert macs == 2 * 16 * 20 * 3 * 8 * 25
    assert count_macs(lambda: layer(torch.empty(1, 3, 50_000, 50_000))) > 1e12  # nothing is computed


def test_multiplications_of_attention():
    """Scores and weighted sum: twice heads x tokens x tokens x channels of a head."""
    q = torch.empty(1, 4, 10, 8)
    assert count_macs(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 4 * 10 * 10 * 8


@pytest.mark.parametrize(("seconds", "expected"), [((1.5, 2.0), 5.5), ((2.0, 2.0), 9 * 2.0 / 2), ((0.5, 2.0), 9.0)])
def test_time_runs_with_the_multiplications(seconds, expected):
    """A line with an overhead; proportional to the larger run if the line does not rise or its overhead is negative."""
    probes = [Probe(1, 10, seconds[0], 100), Probe(2, 20, seconds[1], 110)]
    assert extrapolate(probes, macs=9, pixels=90).seconds == pytest.approx(expected)


def test_memory_runs_with_the_pixels():
    probes = [Probe(1, 10, 1.0, 100), Probe(2, 20, 2.0, 110)]
    assert extrapolate(probes, macs=4, pixels=40).peak_bytes == 130
    shrinking = [Probe(1, 10, 1.0, 120), Probe(2, 20, 2.0, 110)]
    assert extrapolate(shrinking, macs=4, pixels=40).peak_bytes == 110
    assert extrapolate([Probe(1, 10, 1.0, None), Probe(2, 20, 2.0, None)], macs=4, pixels=40).peak_bytes is None


def test_a_single_probe_is_scaled():
    assert extrapolate([Probe(2, 20, 3.0, 110)], macs=4, pixels=40) == Probe(4, 40, 6.0, 110)


def test_a_probe_sees_time_and_memory():
    """Run in a separate process, whose memory holds nothing that an earlier test has freed."""
    code = """
import torch
from runkit.compute.probe import probe

kept = []
small = probe(lambda: None, torch.device("cpu"), macs=1, pixels=1)
large = probe(lambda: kept.append(torch.ones(40_000_000)), torch.device("cpu"), macs=2, pixels=2)
print(large.seconds > small.seconds, small.peak_bytes is None or large.peak_bytes > small.peak_bytes + 100_000_000)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["True", "True"]

"""Benchmarks: tables that keep other machines' rows, providers that take turns, exponents of what grows as is known."""

import csv
import sys

import pandas as pd
import pytest

from benchmarks.plot_erf import EXPERIMENTS, exponents, main
from benchmarks.profile_erf import convolution_kind
from benchmarks.table import merge_rows, percentile
from benchmarks.turns import Worker, take_turns

ECHO = """
import time
from benchmarks.turns import serve
print_to_stdout = print
def work(line):
    print_to_stdout("what a provider prints disturbs nobody")
    if line == "fail":
        raise ValueError(line)
    time.sleep(float(line))
    return [line]
serve(work, "cpu")
"""


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_rerun_replaces_its_own_rows_only(tmp_path):
    table = tmp_path / "table.csv"
    fields = dict(key=("what", "device"), fields=("what", "device", "time", "new"))
    merge_rows(table, [{"what": "a", "device": "x", "time": "1"}, {"what": "a", "device": "y", "time": "2"}], **fields)
    merge_rows(table, [{"what": "a", "device": "x", "time": "3", "new": "4"}], **fields)
    assert rows_of(table) == [
        {"what": "a", "device": "x", "time": "3", "new": "4"},
        {"what": "a", "device": "y", "time": "2", "new": ""},
    ]


@pytest.mark.parametrize(("share", "value"), [(0.2, 2), (0.5, 3), (0.8, 5), (1.0, 5)])
def test_percentile_is_one_of_the_values(share, value):
    assert percentile([5, 1, 3, 2, 4], share) == value


@pytest.mark.sweep  # more than half a minute; its parts have tests of their own
def test_providers_take_turns():
    workers = {name: Worker(["-c", ECHO]) for name in ("slow", "quick")}
    order = []

    def work(name, worker):
        order.append(name)
        return worker.ask("0.05" if name == "slow" else "0")

    assert take_turns(workers, work, rounds=2) == {"slow": ["0.05"], "quick": ["0"]}
    assert order == ["slow", "quick", "slow", "quick"]
    assert min(workers["slow"].seconds) >= 0.05 > max(workers["quick"].seconds)
    assert all(worker.peak_bytes > 1e6 for worker in workers.values())
    with pytest.raises(RuntimeError, match="the provider has ended with exit code 1"):
        workers["slow"].ask("fail")
    for worker in workers.values():
        worker.close()


@pytest.fixture
def growth():
    """Rows as of `bench_erf`, of a tool whose time grows as the square of the side and whose memory as the side."""
    rows = []
    for experiment, (quantity, _) in EXPERIMENTS.items():
        for n in (1, 2, 4):
            row = dict(
                experiment=experiment, provider="ours", model="net.tag", size_px=256, batch=1, images=1, gflop=n**2
            )
            row |= dict(device="a machine", threads=2, torch="2")
            row[quantity] = n * row[quantity] if quantity != "gflop" else n
            rows.append(row | dict(time_s=0.1 * n**2, low_s=0.1 * n**2, high_s=0.1 * n**2, peak_gb=float(n)))
    return pd.DataFrame(rows)


def test_exponents(growth):
    found = exponents(growth).set_index("experiment")
    assert list(found.index) == list(EXPERIMENTS)
    assert found["time_s"].to_list() == pytest.approx([2.0] * 4)
    assert found["peak_gb"].to_list() == pytest.approx([1.0] * 4)
    assert found["gflop"].to_list() == pytest.approx([2.0, 2.0, 2.0, 1.0])


def test_the_plot_is_written_and_the_exponents_are_printed(growth, tmp_path, capsys):
    growth.to_csv(tmp_path / "erf.csv", index=False)
    assert main([str(tmp_path / "erf.csv"), "--out", str(tmp_path / "growth.png")]) == 0
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert "growth-network" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["bench_depthwise", "bench_erf", "bench_shapebias", "plot_erf", "profile_erf", "plot_depthwise", "__main__"]
)
def test_every_benchmark_says_what_it_does(name, capsys):
    module = __import__(f"benchmarks.{name}", fromlist=["main"])
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert "--out" in capsys.readouterr().out
    assert sys.modules[f"benchmarks.{name}"].__doc__


@pytest.mark.parametrize(
    ("x", "weight", "kind", "gflop"),
    [
        ((2, 8, 5, 5), (16, 8, 1, 1), "1×1 convolutions", 2e-9 * 2 * 25 * 16 * 8),
        ((2, 8, 5, 5), (8, 1, 13, 13), "large depthwise convolutions", 2e-9 * 2 * 8 * 25 * 169),
        ((2, 8, 5, 5), (8, 1, 3, 3), "small depthwise convolutions", 2e-9 * 2 * 8 * 25 * 9),
        ((2, 3, 5, 5), (8, 3, 3, 3), "other convolutions", 2e-9 * 2 * 25 * 8 * 3 * 9),
    ],
)
def test_convolutions_are_told_apart_by_their_shapes(x, weight, kind, gflop):
    assert convolution_kind(x, weight) == (kind, pytest.approx(gflop))

"""Benchmarks: tables that keep other machines' rows, providers that take turns, and exponents of known growth."""

import csv
import sys
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import bench_families, on_gpu, share
from benchmarks.plot_erf import EXPERIMENTS, exponents, main
from benchmarks.profile_erf import COMPILED, compiled_kernel_shown, convolution_kind
from benchmarks.table import merge_rows, percentile
from benchmarks.turns import Worker, take_turns
from replknet.ops import DepthwiseConv2d
from replknet.ops.cpu import direct

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
    """Rows as from `bench_erf`, for a tool with time proportional to the square of the side and memory to the side."""
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
    "name",
    [
        "bench_depthwise",
        "bench_erf",
        "bench_families",
        "bench_shapebias",
        "plot_erf",
        "profile_erf",
        "plot_depthwise",
        "__main__",
    ],
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


def test_a_failing_step_on_a_gpu_does_not_keep_the_others_from_running(tmp_path, monkeypatch):
    steps = [
        on_gpu.Step("wrong", ("-c", "raise SystemExit(3)"), 30),
        on_gpu.Step("slow", ("-c", "import time; time.sleep(60)"), 0.5),
        on_gpu.Step("right", ("-c", "print('measured')"), 30),
    ]
    monkeypatch.setattr(on_gpu, "checks", lambda options: steps)
    monkeypatch.setattr(on_gpu, "measurements", lambda options: [])
    assert on_gpu.main(["--out", str(tmp_path), "--stimuli", ".", "--images", "."]) == 1
    assert [row["ended"] for row in rows_of(tmp_path / "steps.csv")] == ["exit code 3", "out of time", "done"]
    assert (tmp_path / "right.txt").read_text() == "measured\n"
    assert (tmp_path / "erf.csv").read_bytes() == (on_gpu.RESULTS / "erf.csv").read_bytes()
    options = ["--out", str(tmp_path / "other"), "--stimuli", ".", "--images", "."]
    assert on_gpu.main([*options, "--only", "right"]) == 0


@pytest.mark.parametrize("trial", [[], ["--trial"]])
def test_steps_on_a_gpu_have_names_of_their_own_and_ask_for_what_there_is(tmp_path, trial):
    options = on_gpu.build_parser().parse_args(
        [*(f"--{name}={tmp_path}" for name in ("out", "stimuli", "images", "imagenette")), *trial]
    )
    steps = [*on_gpu.checks(options), *on_gpu.measurements(options)]
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        program, *arguments = step.arguments[1:]
        if program == "replknet.train" or (program.startswith("benchmarks.") and program != "benchmarks.on_gpu"):
            import_module(program).build_parser().parse_args(arguments)


def test_maps_are_compared_to_the_bit(tmp_path, capsys):
    for name, values in (("a", [[1.0, 2.0]]), ("b", [[1.0, 2.0]]), ("c", [[1.0, 2.0000000001]])):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "net.npz", contribution=np.array(values))
    (tmp_path / "empty").mkdir()
    a, b, c, empty = (str(tmp_path / name) for name in ("a", "b", "c", "empty"))
    assert on_gpu.main(["same", a, b]) == 0
    assert on_gpu.main(["same", a, c]) == on_gpu.main(["same", empty, empty]) == 1


def test_share_of_the_large_kernels():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), DepthwiseConv2d(8, 13), nn.Conv2d(8, 8, 3, groups=8, padding=1))
    clock = share.Clock("cpu")
    assert share.time_large_kernels(model, clock) == 1
    for _ in range(2):
        whole, large = share.times(model, torch.randn(1, 3, 20, 20), clock)
        assert 0 < large < whole
        assert len(clock.spans) == 1


def test_the_profile_shows_the_compiled_kernel_and_its_work():
    pytest.importorskip("llvmlite")
    x, weight = torch.randn(1, 8, 12, 10), torch.randn(8, 1, 5, 7)
    before = direct._convolve
    with compiled_kernel_shown() as work, torch.profiler.profile() as found:
        direct.forward(x, weight, None)
        direct.input_grad(x, weight)
    assert direct._convolve is before
    assert work == [2e-9 * x.numel() * 35] * 2
    shown = [event for event in found.key_averages() if event.key == COMPILED]
    assert [event.count for event in shown] == [2]
    assert shown[0].self_cpu_time_total > 0


def test_a_family_is_timed_on_both_sides(tmp_path):
    out = tmp_path / "erf.csv"
    assert bench_families.main(["--out", str(out), "--model", "test_resnet", "--size", "64", "--rounds", "2"]) == 0
    plain, ours = rows_of(out)
    assert [row["provider"] for row in (plain, ours)] == ["plain", "ours"]
    assert {(row["experiment"], row["model"], row["size_px"], row["rounds"]) for row in (plain, ours)} == {
        ("families", "test_resnet", "64", "2")
    }
    assert plain["ratio"] == "1"
    assert float(ours["ratio_low"]) <= float(ours["ratio"]) <= float(ours["ratio_high"])
    assert float(ours["difference"]) < 1e-3

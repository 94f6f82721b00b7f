"""The paper's claims as commands: exact counts, closed forms, and verdicts that can turn out either way."""

import ast
import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from claims.catalogue import CLAIMS
from claims.claim import Options
from claims.command import USED, _choose, main
from claims.experiments import cost, depth, growth, latency, small_maps, training
from claims.intervals import mean_interval, power_law
from erf.gradient.theoretical import theoretical_field
from runkit import UserError


@pytest.fixture
def run(tmp_path, capsys, caplog):
    """Call the command and return the exit code, stdout, and the log with stderr."""

    def call(*arguments):
        code = main([*arguments, "--output", str(tmp_path / "out")])
        captured, log = capsys.readouterr(), caplog.text
        caplog.clear()
        return code, captured.out, log + captured.err

    call.folder = tmp_path / "out"
    return call


def with_values(rows, **values):
    """Return the rows with some of their values replaced."""
    return [{**row, **values} for row in rows]


# --- command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_prints(run):
    code, out, _ = run("small-maps", "--seeds", "2")
    assert code == 0
    content = json.loads((run.folder / "small-maps.json").read_text(encoding="utf-8"))
    assert content["results"]["holds"] is True
    assert content["results"]["ours"] in out
    assert content["claim"]["source"] in out
    assert content["command"].startswith("python -m erf.claims small-maps --seeds 2")
    assert content["versions"]["torch"]
    with (run.folder / "small-maps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["shift_error"]) for row in rows] == [row["shift_error"] for row in content["results"]["rows"]]
    assert (run.folder / "small-maps.png").stat().st_size > 10_000


def test_a_claim_that_cannot_be_tested_does_not_stop_the_others(run, tmp_path):
    code, out, err = run("latency", "small-maps", "--table", str(tmp_path / "none.csv"))
    assert code == 2
    assert "failed: latency" in err
    assert "--table CSV" in err
    assert "small-maps" in out
    assert (run.folder / "small-maps.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a claim"),
        (["coast"], "there is no claim coast; did you mean cost?"),
        (["cost", "--seeds", "0"], "whole number"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_option_that_no_claim_reads_is_warned_of(run):
    code, _, err = run("small-maps", "--seeds", "1", "--size", "64", "--num-images", "3")
    assert code == 0
    assert "--size and --num-images: without effect on small-maps" in err


def test_the_options_of_a_claim_are_those_that_its_experiment_reads():
    def read_in(module: str) -> set[str]:
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        found = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "options"
        }
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        measures = any(alias.name == "measure_fields" for node in imports for alias in node.names)
        return found | (read_in("claims.experiments.fields") if measures else set())

    everywhere = {"output", "arguments", "device", "overwrite"}
    for claim in CLAIMS:
        assert set(USED[claim.name]) == read_in(claim.experiment_path.partition(":")[0]) - everywhere, claim.name


def test_the_list_and_the_help_answer_without_torch():
    script = (
        "import sys; from claims.command import main, build_parser\n"
        "main(['--list']); build_parser().format_help()\n"
        "print([name for name in ('torch', 'matplotlib', 'scipy', 'pandas') if name in sys.modules])"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert time.perf_counter() - started < 5
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(claim.name in done.stdout for claim in CLAIMS)


def test_all_leaves_out_what_trains_unless_there_is_data():
    nothing, data = Options(), Options(data=Path("imagenette"))
    assert _choose(["all"], Options(data=Path("imagenette"), camvid=Path("camvid"))) == list(CLAIMS)
    assert _choose(["all"], data) == [claim for claim in CLAIMS if claim.needs != "camvid"]
    assert _choose(["all"], nothing) == [claim for claim in CLAIMS if claim.needs is None]
    assert [claim.name for claim in _choose(["dilation"], nothing)] == ["dilation"]  # it will ask for data


def test_every_claim_has_an_experiment_and_says_its_limits():
    for claim in CLAIMS:
        assert claim.experiment().measure
        assert claim.source
        assert claim.limits


# --- cost ---------------------------------------------------------------------------------------------------------


def test_cost_is_counted_exactly():
    """Widening a depthwise kernel from 3 to K adds K² - 9 weights per channel and as many products per pixel."""
    blocks = ((2, 128, 56), (2, 256, 28), (18, 512, 14), (2, 1024, 7))  # blocks, channels and map side of each stage
    small, large = (cost.count(kernels, 224, merged=True) for kernels in ((3, 3, 3, 3), (31, 29, 27, 13)))
    more = [k * k - 9 for k in (31, 29, 27, 13)]
    assert large[0] - small[0] == sum(n * c * k for (n, c, _), k in zip(blocks, more, strict=True))
    assert large[1] - small[1] == sum(n * c * k * s * s for (n, c, s), k in zip(blocks, more, strict=True))


def test_cost_verdict_goes_both_ways():
    rows = [
        {"form": form, "kernels": "31-29-27-13", "more_flops": 0.187, "more_parameters": 0.106}
        for form in ("merged", "training")
    ]
    assert cost.EXPERIMENT.judge(rows).holds is True
    assert cost.EXPERIMENT.judge(with_values(rows, more_flops=0.3)).holds is False


# --- growth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (3, 15), (7, 1), (5, 4)])
def test_width_of_a_uniform_stack_is_known_on_paper(kernel, layers):
    """A box of side K has variance (K² - 1) / 12 along an axis, and variances add under convolution."""
    width = growth.map_width("uniform", kernel, layers, seed=0)
    assert width == pytest.approx(math.sqrt(layers * (kernel**2 - 1) / 12), rel=2e-3)


def test_one_random_linear_layer_is_as_wide_as_its_kernel():
    widths = [growth.map_width("linear", 13, 1, seed) for seed in range(4)]
    assert np.mean(widths) == pytest.approx(growth.uniform_width(13, 1), rel=0.1)


def test_a_random_linear_stack_is_the_root_of_a_variance():
    """The variance of its gradient is the uniform stack's map, a Gaussian, whose square root is wider by sqrt(2)."""
    widths = [growth.map_width("linear", 5, 12, seed) for seed in range(6)]
    assert np.mean(widths) == pytest.approx(math.sqrt(2) * growth.uniform_width(5, 12), rel=0.1)


@pytest.mark.parametrize("kind", growth.KINDS)
def test_stacks_have_the_field_they_say(kind):
    stack = growth.Stack(kind, 7, 4).eval()
    assert theoretical_field(stack, (65, 65), layer="layers").side_px == (25, 25)


def growth_rows(width):
    """Rows for three seeds, with widths given by a function of kernel and layers."""
    shapes = [("grid", k, n) for k in (3, 7, 31) for n in (1, 4, 16)]
    shapes += [("equal field", *shape) for side in growth.EQUAL_FIELDS for shape in ((side, 1), (3, side // 2))]
    return [
        {
            "set": part,
            "kind": "relu",
            "kernel": k,
            "layers": n,
            "seed": seed,
            "width_px": width(k, n) * (1 + seed / 100),
        }
        for part, k, n in shapes
        for seed in range(3)
    ]


def test_growth_verdict_goes_both_ways():
    as_claimed = growth.EXPERIMENT.judge(growth_rows(lambda k, n: k * n**0.5))
    assert as_claimed.holds is True
    mean, low, high = as_claimed.findings["exponents"]["relu"]["depth"]
    assert low <= mean <= high
    assert mean == pytest.approx(0.5)
    assert as_claimed.findings["width_ratios"]["relu"]["31x31"] == pytest.approx(31 / (3 * 15**0.5))
    assert growth.EXPERIMENT.judge(growth_rows(lambda k, n: k * n)).holds is False  # as deep as wide
    assert growth.EXPERIMENT.judge(growth_rows(lambda k, n: (k * n) ** 0.5)).holds is False


# --- depth and training -------------------------------------------------------------------------------------------


def depth_rows(exponent, *, random=False, noise=0.0):
    rng = np.random.default_rng(0)
    return [
        {
            "layers": layers,
            "spatial_layers": n,
            "mass_side_50_px": 50 * n**exponent * math.exp(noise * rng.normal()),
            "theoretical_side_px": 10 * n,
            "random": random,
            "weights": "weights",
        }
        for layers, n in depth.LAYERS.values()
    ]


def test_depth_verdict_goes_both_ways_and_can_stay_open():
    judge = depth.EXPERIMENT.judge
    assert judge(depth_rows(0.2, noise=0.01)).holds is True
    assert judge(depth_rows(0.8, noise=0.01)).holds is False
    assert judge(depth_rows(0.5, noise=0.2)).holds is None
    assert judge(depth_rows(0.2, random=True)).ours.startswith("untrained")


@pytest.mark.sweep  # more than half a minute; its parts have tests of their own
@pytest.mark.usefixtures("no_network")
def test_depth_of_random_networks_is_labelled(run, photo_folder, monkeypatch):
    monkeypatch.setattr(depth, "LAYERS", {"resnet10t": (10, 11), "resnet14t": (14, 7), "resnet18": (18, 17)})
    code, out, err = run("depth", "--images", str(photo_folder), "--size", "64", "--seeds", "1")
    assert code == 0
    assert "RANDOM WEIGHTS for all networks of this claim, since" in err
    assert "untrained" in out
    content = json.loads((run.folder / "depth.json").read_text(encoding="utf-8"))
    assert [record["random"] for record in content["weights"]] == [True] * 3
    assert all(row["weights"] == "RANDOM WEIGHTS (seed 0)" for row in content["results"]["rows"])


@pytest.mark.usefixtures("no_network")
def test_random_weights_never_stand_in_for_trained_ones(run, photo_folder, monkeypatch):
    monkeypatch.setattr(training, "NETWORKS", ("replknet3", "resnet18"))  # nothing is published for the first
    code, _, err = run("training", "--images", str(photo_folder), "--size", "64")
    assert code == 2
    assert "no trained weights are published for replknet3" in err
    assert not (run.folder / "training.json").exists()


def test_trained_and_random_networks_are_measured_on_the_same_images(run, photo_folder, monkeypatch):
    trained = ("tf_efficientnet_lite0.in1k", "tf_efficientnet_lite1.in1k")  # these come with the installation
    monkeypatch.setattr(training, "NETWORKS", trained)
    code, _, _ = run("training", "--images", str(photo_folder), "--size", "64", "--seeds", "1")
    assert code == 0
    content = json.loads((run.folder / "training.json").read_text(encoding="utf-8"))
    assert [record["random"] for record in content["weights"]] == [False, False, True, True]
    rows = content["results"]["rows"]
    assert [(row["weights"], row["seed"]) for row in rows[::2]] == [("trained", None), ("random", 0)]
    for row in rows:
        assert row["difference"] == pytest.approx(row["replknet"] - row["resnet"])
        assert row["low"] <= row["difference"] <= row["high"]


def training_rows(trained, random):
    """Rows with the given differences and intervals of ±0.01."""
    kinds = [("trained", None, trained), *(("random", seed, value) for seed, value in enumerate(random))]
    return [
        {
            "weights": kind,
            "seed": seed,
            "measure": measure,
            "replknet": 0.3 + value,
            "resnet": 0.3,
            "difference": value,
            "low": value - 0.01,
            "high": value + 0.01,
            "images": 4,
        }
        for kind, seed, value in kinds
        for measure in training.MEASURES
    ]


@pytest.mark.parametrize(
    ("trained", "random", "holds"),
    [
        (0.2, [-0.1, -0.2], True),
        (0.2, [0.1, 0.2], False),  # the same order
        (0.2, [-0.1, 0.2], False),  # one draw of the same order
        (-0.2, [-0.1, -0.2], False),  # the trained ones are not as claimed
        (0.2, [-0.1, 0.005], None),  # one draw does not say
        (0.005, [-0.1, -0.2], None),
    ],
)
def test_training_verdict(trained, random, holds):
    rows = training_rows(trained, random)
    assert training.EXPERIMENT.judge(rows).holds is holds
    assert len(training.EXPERIMENT.draw(rows).axes) == len(training.MEASURES)


def test_training_is_not_decided_where_the_measures_disagree():
    flips, stays = training_rows(0.2, [-0.1]), training_rows(0.2, [0.1])
    rows = [row for row in flips if row["measure"] == "area_ratio_50"]
    rows += [row for row in stays if row["measure"] == "mass_area_ratio_50"]
    verdict = training.EXPERIMENT.judge(rows)
    assert verdict.holds is None
    assert verdict.findings["order_flips"] == {"mass_area_ratio_50": False, "area_ratio_50": True}
    assert "random 0 40.0% against 30.0% (the order does not flip)" in verdict.ours


# --- small maps and latency ---------------------------------------------------------------------------------------


def test_shared_taps_are_known_on_paper():
    assert small_maps.connected_pairs(13, 7) == 1.0  # 2 · 7 - 1: every unit sees the whole map
    assert small_maps.shared_taps(13, 7) == pytest.approx(6 / 8)  # 7 taps each, 6 of them in common
    assert small_maps.shared_taps(1, 7) == 1.0
    assert small_maps.connected_pairs(1, 7) == pytest.approx(1 / 49)
    assert small_maps.shift_error(1, 7, seed=0) == 0.0


def test_small_maps_verdict_goes_both_ways():
    rows = small_maps.EXPERIMENT.measure(Options(seeds=2)).rows
    assert small_maps.EXPERIMENT.judge(rows).holds is True
    assert small_maps.EXPERIMENT.judge(with_values(rows, shift_error=0.1)).holds is False


@pytest.fixture
def timings(tmp_path):
    """Write a table of timings in which latency is a power of the FLOPs."""

    def write(exponent):
        path = tmp_path / "depthwise.csv"
        header = "experiment,provider,layout,mode,dtype,n,side_px,k,device,time_ms,gflop_nominal"
        lines = [
            f"table1,{provider},{layout},forward,float32,1,{side},{k},CPU,{slow * (k * k) ** exponent},{side * k * k}"
            for provider in ("ours", "stock")
            for layout, slow in (("contiguous", 2.0), ("channels_last", 1.0))
            for side in (16, 64)
            for k in (3, 13, 31)
        ]
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


def test_latency_verdict_goes_both_ways(timings):
    for exponent, holds in ((0.6, True), (1.2, False)):
        rows = latency.EXPERIMENT.measure(Options(table=timings(exponent))).rows
        assert {row["layout"] for row in rows} == {"channels_last"}  # the faster one
        verdict = latency.EXPERIMENT.judge(rows)
        assert verdict.holds is holds
        assert list(verdict.findings["exponents"]["ours"].values()) == pytest.approx([exponent] * 2)


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column experiment"):
        latency.EXPERIMENT.measure(Options(table=tmp_path / "other.csv"))


# --- statistics ---------------------------------------------------------------------------------------------------


def test_intervals():
    assert mean_interval([2.0]) == (2.0, None, None)
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == pytest.approx((2.0, 4.302653 / math.sqrt(3)))  # t of 2 degrees of freedom
    assert mean - low == pytest.approx(high - mean)
    values = [2 * a**1.5 / b for a, b in ((1, 1), (2, 3), (4, 5), (3, 2))]
    assert power_law(values, [1, 2, 4, 3], [1, 3, 5, 2]) == pytest.approx([1.5, -1.0])

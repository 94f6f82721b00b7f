"""The choice of precision: the faster one for `auto`, otherwise the named one, with a message if it is slower."""

import json
import logging

import numpy as np
import pytest
import torch
from support import tenth_of_the_images

import erf
import erf.visualize
import shapebias.run
from replknet.training.recipe import Recipe
from runkit.compute import precision
from runkit.compute.precision import product_rate, resolve_precision
from shapebias.options import parse_config
from shapebias.sweep import measure_networks

CPU = torch.device("cpu")
OLD = {"float32": 105e9, "bfloat16": 4.21e9, "float16": 1.3e9}  # a processor with AVX2 only
NEW = {"float32": 120e9, "bfloat16": 700e9, "float16": 1.3e9}  # one with matrix tiles for bfloat16


def rate_of(rates):
    return lambda name, device: rates[name]


@pytest.fixture(params=[OLD, NEW], ids=["emulated", "fast"])
def rates(request, monkeypatch) -> dict[str, float]:
    """Set the measured speed of the processor."""
    monkeypatch.setattr(precision, "product_rate", rate_of(request.param))
    return request.param


def test_auto_never_takes_the_slower():
    assert resolve_precision("auto", CPU, rate=rate_of(OLD)) == "float32"
    assert resolve_precision("auto", CPU, rate=rate_of(NEW)) == "bfloat16"
    assert resolve_precision("auto", torch.device("meta"), rate=rate_of(NEW)) == "float32"  # which has no clock


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "float16", "tf32"])
def test_what_is_named_is_taken(name):
    assert resolve_precision(name, CPU, rate=rate_of(OLD)) == name


def test_the_slower_one_by_name_is_warned_of_with_both_rates(caplog):
    with caplog.at_level(logging.WARNING):
        resolve_precision("bfloat16", CPU, rate=rate_of(OLD))
    (record,) = caplog.records
    assert record.getMessage() == (
        "bfloat16 is slower than float32 on this processor: a matrix product runs at 4.21 GFLOP/s in bfloat16 and at "
        "105 GFLOP/s in float32; precision auto takes the faster one"
    )


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "auto"])
def test_nothing_is_said_where_it_pays_or_is_not_for_speed(name, caplog):
    resolve_precision(name, CPU, rate=rate_of(NEW))
    assert caplog.records == []


def test_a_rate_is_measured_once_in_a_process(monkeypatch):
    products = []
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: products.append(a.dtype) or multiply(a, b))
    product_rate.cache_clear()
    rate = product_rate("float32", CPU)
    assert 1e7 < rate < 1e15
    assert product_rate("float32", CPU) == rate
    assert products == [torch.float32] * 4  # one of them to warm up


@pytest.mark.gpu
def test_a_gpu_multiplies_faster_in_half_the_width():
    gpu = torch.device("cuda")
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        assert resolve_precision("auto", gpu) == "float32"
    else:
        assert product_rate("bfloat16", gpu) > product_rate("float32", gpu)
        assert resolve_precision("auto", gpu) == "bfloat16"


def test_a_map_names_the_precision_that_was_used(rates, tmp_path, photo_folder, no_pictures):
    asked = ["--model", "test_resnet", "--weights", "random", "--images", str(photo_folder), "--num-images", "1"]
    asked += ["--size", "32", "--precision", "auto", "--device", "cpu", "--output", str(tmp_path)]
    assert erf.visualize.main(asked) == 0
    text = (tmp_path / "erf" / "test_resnet.json").read_text(encoding="utf-8")
    used = "bfloat16" if rates is NEW else "float32"
    assert json.loads(text)["precision"] == json.loads(text)["identity"]["precision"] == used
    assert json.loads(text)["config"]["precision"] == used
    assert (json.loads(text)["precision_difference"] is not None) == (used == "bfloat16")


def test_analyze_names_the_precision_that_was_used(rates, photo_folder):
    result = erf.analyze("test_resnet", photo_folder, size=32, num_images=1, device="cpu", precision="auto")
    assert result.provenance["precision"] == ("bfloat16" if rates is NEW else "float32")


def test_a_dry_run_says_what_would_be_taken(rates, capsys, benchmark_folder):
    asked = ["--model", "test_resnet", "--weights", "random", "--stimuli", str(benchmark_folder), "--dry-run"]
    assert shapebias.run.main([*asked, "--precision", "auto", "--device", "cpu"]) == 0
    assert f"in {'bfloat16' if rates is NEW else 'float32'} on cpu" in capsys.readouterr().out


def test_answers_name_the_precision_that_was_used(rates, tmp_path, few_images, monkeypatch):
    """The network's answers are made up, because products in an emulated data type take seconds."""

    def answer(model, stimuli, **_):
        assert next(model.parameters()).dtype in (torch.float32, torch.bfloat16 if rates is NEW else torch.float32)
        return np.full((len(stimuli), 1000), 1e-3, np.float32)

    monkeypatch.setattr("shapebias.network.inference.predict", answer)
    monkeypatch.setattr("shapebias.network.precision.predict", answer)
    asked = ["--model", "test_resnet", "--weights", "random", "--stimuli", str(few_images), "--precision", "auto"]
    with tenth_of_the_images():
        measure_networks(parse_config([*asked, "--device", "cpu", "--output", str(tmp_path)]))
    content = json.loads((tmp_path / "shapebias" / "test_resnet.json").read_text(encoding="utf-8"))
    assert content["precision"] == content["config"]["precision"] == ("bfloat16" if rates is NEW else "float32")
    assert (content["precision_check"] is not None) == (rates is NEW)


def test_a_training_takes_the_same(monkeypatch):
    from replknet.training import training

    assert training.resolve_precision is resolve_precision
    assert Recipe().precision == "auto"

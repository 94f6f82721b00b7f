"""The claim about shape bias: its verdict from known answers, and both of its parts on a small scale."""

import json
from pathlib import Path

import numpy as np
import pytest

from claims.claim import Options, rows_of
from claims.command import main
from claims.experiments import shape_bias
from claims.experiments.shape_bias import DIFFERENCE, EXPERIMENT, GLOBAL, LARGE, NETWORKS, RELIANCE, SMALL
from replknet.weights.imagenette import CHECKPOINTS
from runkit import UserError
from shapebias.answers.suppressed import SuppressedAnswers
from shapebias.stimuli.suppressions import CUES, choose_variants

IMAGES, OUTPUTS = 200, 10


def answers(name, seed=0, **lost):
    """Answers of a network that is wrong only for a given share of the images without the named cue."""
    variants = choose_variants(CUES)
    labels = np.arange(IMAGES) % OUTPUTS
    top = np.tile(labels, (len(variants), 1)).astype(np.int32)
    wrong = np.random.default_rng(seed).permutation(IMAGES)
    for index, variant in enumerate(variants):
        for cue, share in lost.items():
            if variant.suppression and variant.suppression.cues == (cue,):
                chosen = wrong[: round(share * IMAGES)]
                top[index, chosen] = (labels[chosen] + 1) % OUTPUTS
    return SuppressedAnswers(
        name=name,
        label=name,
        outputs=OUTPUTS,
        variants=tuple(variant.label for variant in variants),
        images=tuple(f"{number}.png" for number in range(IMAGES)),
        labels=labels,
        top_outputs=top[..., None],
        top_probabilities=np.ones((*top.shape, 1), np.float32),
        label_probability=(top == labels).astype(np.float32),
        provenance={},
    )


def rows_for(large, small, seeds=1):
    """Rows of two networks that lose these shares of accuracy without shape."""
    trained = [
        shape_bias._Trained(name, seed, answers(name, seed, shape=share, texture=0.1))
        for seed in range(seeds)
        for name, share in ((LARGE, large), (SMALL, small))
    ]
    return shape_bias._reliance_rows(trained, choose_variants(CUES))


def test_reliance_and_its_difference_are_those_of_the_answers():
    rows = rows_for(0.36, 0.18)
    (shape,) = rows_of(rows, part=RELIANCE, name=LARGE, measure="shape")
    # a curve falls from 1 to what is left at its first strength and stays there
    strengths = {}
    for variant in choose_variants(["shape"])[1:]:
        strengths[variant.suppression.name] = strengths.get(variant.suppression.name, 0) + 1
    area = np.mean([1 - 0.4 * (count - 0.5) / count for count in strengths.values()])
    assert shape["value"] == pytest.approx(1 - area)  # 0.36 of the accuracy of 1, above a chance of 0.1
    (colour,) = rows_of(rows, part=RELIANCE, name=LARGE, measure="colour")
    assert colour["value"] == 0
    (difference,) = rows_of(rows, part=DIFFERENCE, measure="shape")
    assert difference["value"] == pytest.approx((1 - area) / 2)
    assert difference["low"] < difference["value"] < difference["high"]
    coarse = [row["value"] for row in rows_of(rows, part=RELIANCE, measure=GLOBAL)]
    assert coarse[0] > coarse[1] > 0
    assert len({tuple(row) for row in rows}) == 1  # all have the same keys


@pytest.mark.parametrize(
    ("large", "small", "seeds", "holds"),
    [(0.4, 0.2, 1, True), (0.2, 0.4, 1, False), (0.3, 0.3, 1, None), (0.4, 0.2, 3, True)],
)
def test_the_verdict_is_of_the_reliance_on_shape(large, small, seeds, holds):
    verdict = EXPERIMENT.judge(rows_for(large, small, seeds))
    assert verdict.holds is holds
    found = verdict.findings["reliance"]
    assert found["shape"]["seeds"] == seeds
    assert found["texture"]["difference"] == pytest.approx(0)
    assert f"({seeds} training{'s' if seeds > 1 else ''} each)" in verdict.ours


def test_trainings_that_differ_decide_less():
    """Three seeds with differences of +0.2, 0 and -0.1 decide nothing, although each alone has a narrow interval."""
    rows = []
    for seed, (large, small) in enumerate(((0.4, 0.2), (0.3, 0.3), (0.2, 0.3))):
        rows += [{**row, "seed": seed} for row in rows_for(large, small)]
    assert EXPERIMENT.judge(rows).holds is None


def test_recorded_answers_alone_give_figures_and_no_verdict(tmp_path, data_dir, capsys):
    folders = [data_dir / "networks" / "cue-conflict", data_dir / "human" / "cue-conflict"]
    assert main(["shape-bias", "--answers", *map(str, folders), "--output", str(tmp_path)]) == 0
    assert "not decided" in capsys.readouterr().out
    content = json.loads((tmp_path / "shape-bias.json").read_text(encoding="utf-8"))
    found = {row["name"]: row for row in content["results"]["rows"]}
    assert len(found) == 10  # nine networks, and all people together
    assert found["resnet50"]["value"] == pytest.approx(0.2138, abs=0.01)  # published for ResNet-50
    people = found["people (n = 10)"]
    assert people["kind"] == "people"
    assert people["value"] > 0.9
    assert max(row["value"] for row in found.values()) == people["value"]
    assert (tmp_path / "shape-bias.png").stat().st_size > 10_000


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match="give --data DIR"):
        EXPERIMENT.measure(Options())
    with pytest.raises(UserError, match=r"holds no NAME\.TAG\.safetensors"):
        shape_bias._trainings(tmp_path)
    (tmp_path / f"{SMALL}.imagenette_seed1.safetensors").touch()
    with pytest.raises(UserError, match=r"imagenette_seed1\.json is missing"):
        shape_bias._trainings(tmp_path)


def test_more_trainings_are_found_and_the_shipped_ones_come_once(tmp_path):
    for seed in (0, 1):
        record = json.loads((CHECKPOINTS / f"{SMALL}.imagenette.json").read_text(encoding="utf-8"))
        if seed:
            record["file"]["sha256"], record["recipe"]["seed"] = "0" * 64, seed
        tag = "imagenette" + (f"_seed{seed}" if seed else "")
        (tmp_path / f"{SMALL}.{tag}.safetensors").touch()
        (tmp_path / f"{SMALL}.{tag}.json").write_text(json.dumps(record), encoding="utf-8")
    more = tmp_path / f"{SMALL}.imagenette_seed1.safetensors"
    assert shape_bias._trainings(tmp_path) == [
        ("shipped", NETWORKS, "pretrained", 0),
        (more.stem, (SMALL,), str(more), 1),
    ]
    again = tmp_path / f"{SMALL}.other.safetensors"
    again.touch()
    again.with_suffix(".json").write_bytes(more.with_suffix(".json").read_bytes())
    with pytest.raises(UserError, match="two trainings of one network and one seed"):
        shape_bias._trainings(tmp_path)


@pytest.mark.slow
def test_the_trained_networks_are_measured(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(shape_bias, "NETWORKS", (LARGE, SMALL))
    monkeypatch.setattr(shape_bias, "CUES", ("shape",))
    monkeypatch.setattr(shape_bias, "MEASURES", ("shape", GLOBAL))
    arguments = ["shape-bias", "--data", str(data_dir / "imagenette-160"), "--num-images", "20", "--device", "cpu"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "shape-bias.json").read_text(encoding="utf-8"))
    rows = content["results"]["rows"]
    assert {row["name"] for row in rows_of(rows, part=RELIANCE)} == {LARGE, SMALL}
    assert all(0 < row["value"] < 1 for row in rows_of(rows, part=RELIANCE, measure="shape"))
    assert [record["sha256_verified"] for record in content["weights"]] == ["full", "full"]
    assert list(Path(tmp_path / "shape-bias" / "shipped").glob("*.probabilities.npz"))

"""The page about the trained networks agrees with their records."""

import json
import shutil

import pytest
from support import load_script

from replknet.weights.imagenette import CHECKPOINTS

script = load_script("trained_networks")


def test_the_page_is_up_to_date():
    """If this fails, run `python scripts/trained_networks.py`."""
    assert script.main(["--check"]) == 0


@pytest.fixture
def more(tmp_path):
    """Records of two further trainings of one network, without their weights."""
    for seed, top1 in ((1, 84.0), (2, 86.0)):
        record = json.loads((CHECKPOINTS / "replknet3n.imagenette.json").read_text(encoding="utf-8"))
        record["recipe"]["seed"], record["top1"] = seed, top1
        record.pop("top1_interval", None)  # as records of older versions
        record["taps"] = {"size_px": 96, "taps": 144, "unreached": 12, "zero": 12, "kernels": {}}
        stem = tmp_path / f"replknet3n.imagenette_seed{seed}"
        stem.with_name(stem.name + ".json").write_text(json.dumps(record), encoding="utf-8")
        shutil.copy(CHECKPOINTS / "replknet3n.imagenette.csv", stem.with_name(stem.name + ".csv"))
    return tmp_path


def test_more_trainings_have_a_row_each_and_their_spread(more):
    records = script.read_records([CHECKPOINTS, more])
    assert [(one["model"], one["recipe"]["seed"]) for one in records][3:6] == [
        ("replknet3n", seed) for seed in range(3)
    ]
    text = script.page(records)
    assert "| `replknet3n` | 1 | not shipped | 84.00 [82.8, 85.1] | 144 | 132 |" in text
    top1 = [one["top1"] for one in records[3:6]]
    assert f"`replknet3n` {sum(top1) / 3:.2f}% ({min(top1):.2f} to {max(top1):.2f}, 3 trainings)" in text
    assert "the other trainings in `figures/reference/trainings`" in text
    figure = script.draw_curves(records)
    assert [len(ax.lines) for ax in figure.axes] == [7, 7]
    assert len(figure.axes[0].get_legend().texts) == 5

"""Adding trainings to the repository, and the tables about the shipped networks on the pages."""

import json

import pytest
from support import ROOT, load_script

from runkit import UserError, sha256_of_file

adopt_trained, trained_tables = load_script("adopt_trained"), load_script("trained_tables")


def test_the_tables_on_the_pages_are_up_to_date():
    """If this fails, run `python scripts/trained_tables.py`."""
    assert trained_tables.main(["--check"]) == 0


def test_every_table_has_its_place():
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in trained_tables.PAGES)
    assert [text.count(f"<!-- numbers: {name} -->") for name in trained_tables.BLOCKS] == [1] * len(
        trained_tables.BLOCKS
    )


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """A folder with a training to ship and one with another seed, and a repository that has an older training."""
    (tmp_path / "new").mkdir()
    for tag in ("imagenette", "imagenette_seed1"):
        stem = tmp_path / "new" / f"replknet3n.{tag}"
        record = {"taps": {"unreached": 0, "zero": 0}, "evaluation": {}}
        for ending, text in (("json", json.dumps(record)), ("csv", "epoch"), ("md", "# card"), ("safetensors", tag)):
            stem.with_name(f"{stem.name}.{ending}").write_text(text, encoding="utf-8")
    manifest = {"packaged_weights": {"replknet3n.imagenette": {"path": "p", "sha256": "old", "size": 1}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    monkeypatch.setattr(adopt_trained, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setattr(adopt_trained, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(adopt_trained, "MORE", tmp_path / "more")
    return tmp_path


def test_seed_0_is_shipped_and_of_others_the_record_stays(trainings):
    adopt_trained.adopt(trainings / "new")
    names = sorted(path.name for path in (trainings / "checkpoints").iterdir())
    assert names == [f"replknet3n.imagenette.{end}" for end in ("csv", "json", "md", "safetensors")]
    names = sorted(path.name for path in (trainings / "more").iterdir())
    assert names == [f"replknet3n.imagenette_seed1.{end}" for end in ("csv", "json", "md")]
    manifest = json.loads((trainings / "manifest.json").read_text(encoding="utf-8"))["packaged_weights"]
    weights = trainings / "checkpoints" / "replknet3n.imagenette.safetensors"
    assert manifest["replknet3n.imagenette"] == {"path": "p", "sha256": sha256_of_file(weights), "size": 10}


@pytest.mark.parametrize(
    ("record", "message"),
    [({"taps": {"unreached": 3, "zero": 3}, "evaluation": {}}, "3 taps met no image"), ({}, "was not evaluated")],
)
def test_a_training_that_cannot_be_shipped_is_refused(trainings, record, message):
    (trainings / "new" / "replknet3n.imagenette.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        adopt_trained.adopt(trainings / "new")
    assert "old" in (trainings / "manifest.json").read_text(encoding="utf-8")

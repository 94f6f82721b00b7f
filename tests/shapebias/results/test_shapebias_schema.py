"""Results are what the JSON Schemas, the types they are made of, and the documentation say."""

import json

import pytest
from jsonschema import Draft202012Validator
from support import ROOT

from shapebias.results.content import comparison_schema, result_schema
from shapebias.run import main

NETWORK = "test_efficientnet"
RESULT, COMPARISON = (
    json.loads((ROOT / "shapebias" / "results" / f"{name}.schema.json").read_text(encoding="utf-8"))
    for name in ("result", "comparison")
)


def content_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_files_are_made_of_the_types():
    """If not, `python scripts/schemas.py` writes them anew."""
    assert result_schema() == RESULT
    assert comparison_schema() == COMPARISON


@pytest.mark.parametrize("schema", [RESULT, COMPARISON], ids=["result", "comparison"])
def test_the_schema_is_one(schema):
    Draft202012Validator.check_schema(schema)


def test_what_a_run_writes_follows_them(quick, arguments, people_folder, tmp_path):
    """A network asked in a reduced precision; its probabilities measured again; answers read from CSVs."""
    run = ["--model", NETWORK, "--weights", "random", "--precision", "bfloat16", *arguments]
    assert main(run) == 0
    out = tmp_path / "out" / "shapebias"
    asked = content_of(out / f"{NETWORK}.json")
    assert asked["precision_check"]["images"] == 16
    saved = ["--from-probabilities", str(out / f"{NETWORK}.probabilities.npz"), "--humans", str(people_folder)]
    assert main([*saved, "--output", str(tmp_path / "again")]) == 0
    again = content_of(tmp_path / "again" / "shapebias" / f"{NETWORK}.json")
    assert again["remeasured"]["command"] != again["command"]
    recorded = ["--from-csv", str(out / "raw" / "cue-conflict"), str(people_folder)]
    assert main([*recorded, "--output", str(tmp_path / "recorded")]) == 0
    folder = tmp_path / "recorded" / "shapebias"
    person = content_of(folder / "subject-01.json")
    assert person["results"]["kind"] == "person"
    for content in (asked, again, person):
        Draft202012Validator(RESULT).validate(content)
    for path in (out / "shape-bias.json", folder / "shape-bias.json"):
        comparison = content_of(path)
        Draft202012Validator(COMPARISON).validate(comparison)
        assert comparison["results"]["differences"]["pairs"]
        assert comparison["results"]["error_consistency"]["with_people"]


def test_images_with_one_cue_and_observers_of_other_images_follow_them_too(tmp_path, no_network, monkeypatch):
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    rows = "subj,session,trial,rt,object_response,category,condition,imagename\n"
    for name, image in (("one", "cat1.png"), ("two", "dog1.png")):
        path = tmp_path / f"edge_{name}_session-1.csv"
        path.write_text(f"{rows}{name},1,1,NaN,cat,{image[:3]},NaN,{image}\n", encoding="utf-8")
    paths = map(str, tmp_path.glob("edge_*.csv"))
    assert main(["--from-csv", *paths, "--experiment", "edge", "--output", str(tmp_path)]) == 0
    folder = tmp_path / "shapebias" / "edge"
    comparison = content_of(folder / "accuracy.json")
    Draft202012Validator(COMPARISON).validate(comparison)
    assert comparison["results"]["error_consistency"] is None
    one = content_of(folder / "one.json")
    Draft202012Validator(RESULT).validate(one)
    assert one["results"]["shape_bias"] is None


def test_a_wrong_result_does_not_follow_them(quick, arguments, tmp_path):
    assert main(["--model", NETWORK, "--weights", "random", *arguments]) == 0
    folder = tmp_path / "out" / "shapebias"
    result, comparison = content_of(folder / f"{NETWORK}.json"), content_of(folder / "shape-bias.json")
    assert Draft202012Validator(RESULT).is_valid(result)
    assert not Draft202012Validator(RESULT).is_valid({**result, "ties": -1})
    assert not Draft202012Validator(RESULT).is_valid({**result, "another_key": 1})
    del result["results"]["coverage_interval"]
    assert not Draft202012Validator(RESULT).is_valid(result)
    comparison["results"]["differences"]["pairs"][0]["p"] = 1.5
    messages = [error.message for error in Draft202012Validator(COMPARISON).iter_errors(comparison)]
    assert messages == ["1.5 is greater than the maximum of 1"]


def test_every_key_is_documented():
    documentation = (ROOT / "docs" / "file-formats.md").read_text(encoding="utf-8")
    names = {*RESULT["$defs"]["NetworkResult"]["properties"], *COMPARISON["properties"]}
    for part in ("ObserverResults", "PairDifference", "ErrorConsistency"):
        names |= {*{**RESULT["$defs"], **COMPARISON["$defs"]}[part]["properties"]}
    assert not [name for name in names if not name.endswith("_interval") and f"`{name}`" not in documentation]

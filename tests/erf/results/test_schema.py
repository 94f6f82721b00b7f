"""Results agree with the JSON Schema and the documentation."""

import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from support import ROOT

import erf
from erf.results.content import schema
from erf.visualize import main

SCHEMA = json.loads((ROOT / "erf" / "results" / "result.schema.json").read_text(encoding="utf-8"))
DOCUMENTATION = (ROOT / "docs" / "file-formats.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of networks with bounded and unbounded fields, from several images and from one."""
    folder = tmp_path_factory.mktemp("results")
    for images, name in (("3", "tf_efficientnet_lite0.in1k"), ("1", "efficientnet_b0")):
        arguments = ["--model", name, "--weights", "random", "--num-images", images, "--size", "64"]
        assert main([*arguments, "--output", str(folder)]) == 0
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (folder / "erf").glob("*.json")}


def test_the_file_is_made_of_the_types():
    """If this fails, run `python scripts/schemas.py` to write it again."""
    assert schema() == SCHEMA


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_results_follow_the_schema(results):
    bounded, unbounded = results["tf_efficientnet_lite0.in1k"], results["efficientnet_b0"]
    for content in (bounded, unbounded):
        Draft202012Validator(SCHEMA).validate(content)
        assert set(content) <= set(SCHEMA["properties"])
    assert bounded["results"]["theoretical_ratio"][0]["ratio"] > 0
    assert bounded["results"]["interval"]["resamples"] == 2000
    assert unbounded["theoretical_field"]["reason"].startswith("no bound")
    assert unbounded["results"]["theoretical_ratio"] is unbounded["results"]["interval"] is None


@pytest.mark.parametrize(
    "make", [np.ones, lambda shape: np.pad([[1.0]], (shape[0] // 2, shape[0] - shape[0] // 2 - 1))]
)
def test_measures_without_a_value_follow_it_too(make):
    measures = erf.measure(make((33, 33))).as_dict()
    Draft202012Validator({"$ref": "#/$defs/FieldMeasures", "$defs": SCHEMA["$defs"]}).validate(measures)


def test_a_wrong_result_does_not_follow_it(results):
    content = json.loads(json.dumps(results["tf_efficientnet_lite0.in1k"]))
    content["results"]["anisotropy"] = 0.5
    del content["results"]["rms_radius_px"]
    errors = {error.message for error in Draft202012Validator(SCHEMA).iter_errors(content)}
    assert errors == {"0.5 is less than the minimum of 1", "'rms_radius_px' is a required property"}


def test_every_key_is_documented():
    names = {*SCHEMA["properties"], *SCHEMA["$defs"]["FieldMeasures"]["properties"]}
    names |= {*SCHEMA["$defs"]["Gaussian"]["properties"]}
    assert not [name for name in names if not name.endswith("_interval") and f"`{name}`" not in DOCUMENTATION]

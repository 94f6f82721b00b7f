"""The receptive-field tool's console: JSON, silence, lists, and dry runs that keep what they say."""

import json

import pytest

import erf
from erf.visualize import main

NETWORK = "test_resnet.r160_in1k"
pytestmark = pytest.mark.usefixtures("no_network", "no_pictures")


@pytest.fixture
def run(photo_folder, tmp_path, capsys, caplog):
    """Call the command on four small images; returns exit code, stdout, and the log with stderr."""

    def call(*arguments):
        code = main(["--images", str(photo_folder), "--size", "64", "--output", str(tmp_path / "out"), *arguments])
        captured, log = capsys.readouterr(), caplog.text
        caplog.clear()
        return code, captured.out, log + captured.err

    call.folder = tmp_path / "out" / "erf"
    return call


def written(run) -> set[str]:
    return {str(path) for path in run.folder.rglob("*") if path.is_file()} if run.folder.exists() else set()


def test_json_is_all_there_is_on_stdout(run):
    networks = ("test_resnet", "test_vit")
    code, out, _ = run("--model", *networks, "--weights", "random", "--size", "160", "--json")
    assert code == 0
    content = json.loads(out)
    assert [row["model"] for row in content["networks"]] == list(networks)
    first = content["networks"][0]
    assert first["random_weights"] is True
    assert first["num_images"] == 4
    values = {(row["measure"], row["threshold"]): row["value"] for row in first["measures"]}
    result = erf.load_result(run.folder / "test_resnet.npz")
    assert values["rms_radius_px", None] == pytest.approx(result.measured.values["rms_radius_px"].estimate)
    said = {path for row in content["networks"] for path in row["files"]} | set(content["comparison_files"])
    assert said == written(run)
    assert content["failed"] == {}


def test_json_names_what_failed(run):
    code, out, _ = run("--model", "test_resnet", "nosuch", "--weights", "random", "--json")
    assert code == 2
    content = json.loads(out)
    assert [row["model"] for row in content["networks"]] == ["test_resnet"]
    assert "unknown network 'nosuch'" in content["failed"]["nosuch"]
    code, out, _ = run("--model", "nosuch1", "nosuch2", "--json")
    assert code == 2
    assert set(json.loads(out)["failed"]) == {"nosuch1", "nosuch2"}


def test_quiet_leaves_results_and_warnings(run):
    code, out, err = run("--model", "test_resnet", "--weights", "random", "--quiet")
    assert code == 0
    assert "Area ratio as published" in out
    assert err == ""
    code, _, err = run("--model", "test_resnet", "--weights", "auto", "--overwrite", "--quiet")
    assert code == 0
    assert "RANDOM WEIGHTS" in err  # a warning
    assert "image/s" not in err


def test_verbose_tells_every_step(run):
    _, _, usual = run("--model", "test_vit", "--weights", "random", "--size", "160")
    _, _, verbose = run("--model", "test_vit", "--weights", "random", "--size", "160", "--overwrite", "--verbose")
    assert "has no lean form" in verbose or "cannot be traced" in verbose
    assert "has no lean form" not in usual


def test_list_of_networks(run):
    code, out, _ = run("--list-models", "tf_efficientnet_lite0*")
    assert code == 0
    assert "tf_efficientnet_lite0.in1k  installed" in out
    assert not written(run)


@pytest.mark.parametrize("more", [[], ["--formats", "png", "svg", "--layer", "0", "last"]], ids=["one", "several"])
def test_a_dry_run_names_the_files_that_the_run_writes(run, more):
    arguments = ["--model", "test_resnet", "--weights", "random", *more]
    code, out, _ = run(*arguments, "--dry-run", "--json")
    assert code == 0
    assert not written(run)
    plan = json.loads(out)
    said = [file for part in (plan, *plan["runs"]) for file in part["files"]]
    assert not any(file["exists"] for file in said)
    for part in plan["runs"]:
        assert part["weights"] == "RANDOM WEIGHTS (seed 0)"
        assert part["state"] == "compute"
        assert part["estimate"]["seconds"] > 0
        assert part["estimate"]["macs"] > 0
    assert run(*arguments)[0] == 0
    assert {file["path"] for file in said} == written(run)

    code, out, _ = run(*arguments, "--dry-run")
    assert code == 0
    assert out.count("finished: keep") == len(plan["runs"])
    assert "  new  " not in out
    assert "estimates" not in out


def test_a_dry_run_fetches_nothing(run):
    code, out, _ = run("--model", "test_resnet.r160_in1k", "--dry-run", "--num-images", "2")
    assert code == 0
    assert "downloadable" in out
    assert "0.5 M" in out
    assert "Time and memory are estimates: from runs with one image" in out
    assert not written(run)


def test_a_dry_run_ends_as_the_run_would(run):
    code, _, err = run("--model", "nosuch", "--dry-run")
    assert code == 2
    assert "unknown network 'nosuch'" in err
    assert run("--model", "test_resnet", "--weights", "random")[0] == 0
    code, _, err = run("--model", "test_resnet", "--weights", "random", "--seed", "1", "--dry-run")
    assert code == 2
    assert "is of another configuration" in err
    code, _, err = run("--model", "test_resnet", "--weights", "random", "--layer", "layer9", "--dry-run")
    assert code == 2


def test_a_dry_run_of_saved_results(run, tmp_path):
    assert run("--model", "test_resnet", "--weights", "random")[0] == 0
    npz = run.folder / "test_resnet.npz"
    assert main(["--from-npz", str(npz), "--output", str(tmp_path / "again"), "--dry-run"]) == 0
    assert not (tmp_path / "again").exists()


def test_an_estimate_of_a_network_of_fixed_input_size(run):
    """ViT takes sides that its patches divide: probes that it refuses are left out."""
    code, out, _ = run("--model", "test_vit", "--weights", "random", "--size", "144", "--dry-run", "--json")
    assert code == 0
    (planned,) = json.loads(out)["runs"]
    assert planned["estimate"]["seconds"] > 0

"""The console of the receptive-field tool: JSON, --quiet, lists, and dry runs that predict correctly."""

import json
import logging

import pytest

import erf
from erf.visualize import main

NETWORK = "test_resnet.r160_in1k"
pytestmark = pytest.mark.usefixtures("no_network", "no_pictures")


@pytest.fixture
def run(photo_folder, tmp_path, capsys, caplog):
    """Call the command on four small images and return the exit code, stdout, and the log with stderr."""

    def call(*arguments, images=True):
        base = ["--images", str(photo_folder), "--size", "64", "--output", str(tmp_path / "out")] if images else []
        code = main([*base, *arguments])
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
    assert "Time and memory are estimates: extrapolated from trial runs with one image" in out
    assert not written(run)


def test_a_dry_run_of_trained_weights_does_not_speak_of_untrained_ones(run, caplog):
    with caplog.at_level(logging.INFO):
        code, out, _ = run("--model", "resnet18n", "--dry-run", "--num-images", "2")
    assert code == 0
    assert "2.8 M" in out
    assert "untrained" not in caplog.text


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
    """ViT accepts only sides that are multiples of its patches; probes of other sizes are left out."""
    code, out, _ = run("--model", "test_vit", "--weights", "random", "--size", "144", "--dry-run", "--json")
    assert code == 0
    (planned,) = json.loads(out)["runs"]
    assert planned["estimate"]["seconds"] > 0


def test_random_stands_above_trained_whatever_the_order_of_the_files(run, tmp_path):
    """A shell sorts `pretrained` before `random`; saved results of `--before-after` keep the order of the run."""
    name = "tf_efficientnet_lite0.in1k"
    again = ["--output", str(tmp_path / "again"), "--json"]

    def drawn(*arguments) -> list[str]:
        code, out, _ = run(*arguments, images=False)
        assert code == 0
        return [network["model"] for network in json.loads(out)["networks"]]

    assert run("--model", name, "--before-after", "--num-images", "1", "--layer", "0", "1")[0] == 0
    measured = [f"{name}.{weights}.layer-{layer}" for weights in ("random", "pretrained") for layer in (0, 1)]
    files = sorted(map(str, run.folder.glob("*.npz")))
    assert [".random." in file for file in files] == [False, False, True, True]
    assert drawn("--from-npz", *files, *again) == measured
    assert drawn("--from-npz", str(run.folder), *again) == measured

    both = [
        "--model",
        name,
        "--weights",
        "pretrained",
        "random",
        "--num-images",
        "1",
        "--output",
        str(tmp_path / "own"),
    ]
    assert run(*both)[0] == 0  # the order that the user chose is the user's, unless the option asks for the other
    files = sorted(map(str, (tmp_path / "own" / "erf").glob("*.npz")))
    assert drawn("--from-npz", *files, *again) == [f"{name}.pretrained", f"{name}.random"]
    assert drawn("--from-npz", *files, "--before-after", *again) == [f"{name}.random", f"{name}.pretrained"]


def test_a_label_of_no_result_is_refused(run, tmp_path):
    arguments = ["--model", "test_resnet", "--weights", "random"]
    for more in ([], ["--dry-run"]):
        code, _, err = run(*arguments, "--labels", "foo=bar", *more)
        assert code == 2
        assert "--labels foo=bar: no result is called foo; there is test_resnet" in err
        assert "results go to" not in err
    assert not written(run)
    code, _, err = run("--model", "test_resnet", "nosuch", "--weights", "random", "--labels", "nosuch=x", "--json")
    assert "no result is called" not in err  # it is the network that failed
    assert run(*arguments, "--labels", "test_resnet=a small one")[0] == 0
    saved = ["--from-npz", str(run.folder / "test_resnet.npz"), "--output", str(tmp_path / "again")]
    for more in ([], ["--dry-run"]):
        code, _, err = run(*saved, "--labels", "test_resnets=x", *more, images=False)
        assert code == 2
        assert "--labels test_resnets=x: no result is called test_resnets; did you mean test_resnet?" in err
    assert not (tmp_path / "again").exists()


def test_fewer_images_than_asked_for_are_said(run, tmp_path):
    arguments = ["--model", "test_resnet", "--weights", "random", "--dry-run"]
    assert "--num-images 9: there are only 4 images (photos); all are used" in run(*arguments, "--num-images", "9")[2]
    assert "--num-images" not in run(*arguments)[2]  # the default of 50 is "at most"
    assert "--num-images" not in run(*arguments, "--num-images", "4")[2]
    bundled = [*arguments, "--size", "64", "--output", str(tmp_path / "out"), "--num-images", "50"]
    assert "there are only 5 images (scikit-image photographs)" in run(*bundled, images=False)[2]
    assert run(*arguments[:-1], "--num-images", "9")[0] == 0
    config = json.loads((run.folder / "test_resnet.json").read_text(encoding="utf-8"))["config"]
    assert config["num_images"] == 9
    assert "num_images_said" not in config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-npz", "x.npz", "--size", "64", "--plain"], "leave out --size, --plain"),
        (["--from-npz", "x.npz", "--num-images", "50"], "leave out --num-images"),
        (["--from-npz", "x.npz", "--weights", "random"], "leave out --weights"),
        (["--model", "x", "--num-images", "0"], "--num-images 0: take at least 1"),
        (["--model", "x", "--labels", "x"], "--labels x: write NAME=TEXT"),
        (["--model", "x", "--thresholds", "1.5"], "threshold 1.5 must lie between 0 and 1"),
        (["--model", "x", "--thresholds", "50"], "threshold 50 must lie between 0 and 1; write 0.5 for 50%"),
        (["--model", "x", "--columns", "0"], "columns=0: take 1 or more"),
        (["--model", "x", "--width", "1"], "width '1': take column, page"),
    ],
)
def test_what_would_be_ignored_is_refused_at_once(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_what_is_wrong_is_said_before_a_network_is_built(run, tmp_path, monkeypatch):
    def build(*_, **__):
        raise AssertionError("a network is built")

    arguments = ["--model", "test_resnet", "--weights", "random"]
    code, _, err = run(*arguments, "--layer", "99")
    assert code == 2
    assert "test_resnet: layer 99: the network has feature maps 0 to 4" in err
    assert "results go to" not in err
    code, _, err = run(*arguments, "--layer", "all", "0")
    assert code == 2
    assert "--layer all 0 asks for test_resnet.layer-0 more than once" in err
    monkeypatch.setattr("runkit.compute.device.choose_device", build)
    assert "nowhere does not exist" in run(*arguments, "--images", "nowhere")[2]
    (tmp_path / "file").write_text("")
    assert "file is not a folder" in run(*arguments, "--output", str(tmp_path / "file" / "out"))[2]

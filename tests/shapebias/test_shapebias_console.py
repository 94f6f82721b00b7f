"""The console of the shape-bias tool: JSON, --quiet, lists, and dry runs that predict correctly."""

import json

import pytest

from shapebias.run import main
from shapebias.stimuli.categories import CATEGORIES

NETWORK = "test_efficientnet"
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def run(arguments, tmp_path, capsys, caplog):
    """Call the command on the fixture's benchmark and return the exit code, stdout, and the log with stderr."""

    def call(*more):
        code = main([*arguments, *more])
        captured, log = capsys.readouterr(), caplog.text
        caplog.clear()
        return code, captured.out, log + captured.err

    call.folder = tmp_path / "out"
    return call


def written(run) -> set[str]:
    return {str(path) for path in run.folder.rglob("*") if path.is_file()} if run.folder.exists() else set()


@pytest.mark.usefixtures("quick")
def test_json_is_all_there_is_on_stdout(run):
    code, out, _ = run("--model", NETWORK, "--weights", "random", "--json")
    assert code == 0
    content = json.loads(out)
    assert [row["name"] for row in content["observers"]] == [
        f"{NETWORK}-random-weights",
        "people",
        "subject-01",
        "subject-02",
    ]
    saved = json.loads((run.folder / "shapebias" / f"{NETWORK}.json").read_text(encoding="utf-8"))["results"]
    assert content["observers"][0]["shape_bias"] == saved["shape_bias"]
    assert set(content["files"]) == written(run)
    assert content["skipped"] == []
    assert content["failed"] == {}


def test_json_names_what_was_left_out(run):
    code, out, _ = run("--model", "nosuch1", "nosuch2", "--json")
    assert code == 2
    content = json.loads(out)
    assert set(content["failed"]) == {"nosuch1", "nosuch2"}
    assert content["observers"] == []


@pytest.mark.usefixtures("quick")
def test_quiet_leaves_the_table(run):
    code, out, err = run("--model", NETWORK, "--weights", "random", "--quiet")
    assert code == 0
    assert "shape bias" in out
    assert "wrote" not in err
    assert "image/s" not in err


def test_list_of_networks_that_can_be_measured(run):
    code, out, _ = run("--list-models", "swin_base_patch4_window7_224")
    assert code == 0
    assert "swin_base_patch4_window7_224.ms_in1k" in out
    assert "swin_base_patch4_window7_224.ms_in22k " in out  # 21841 classes of ImageNet-22k
    code, _, err = run("--list-models", "vit_base_patch16_224.bamboo")  # 115217 classes
    assert (code, "no network with a head that is known is called so" in err) == (2, True)


@pytest.mark.usefixtures("quick")
def test_a_dry_run_names_the_files_that_the_run_writes(run):
    arguments = ["--model", NETWORK, "--weights", "random", "--formats", "png", "svg"]
    code, out, _ = run(*arguments, "--dry-run", "--json")
    assert code == 0
    assert not written(run)
    plan = json.loads(out)
    (planned,) = plan["runs"]
    assert planned["weights"] == "RANDOM WEIGHTS (seed 0)"
    assert planned["state"] == "ask"
    assert planned["estimate"]["seconds"] > 0
    assert 100_000 < planned["estimate"]["parameters"] < 1_000_000
    said = {file["path"] for part in (plan, planned) for file in part["files"]}
    assert run(*arguments)[0] == 0
    assert said == written(run)

    code, out, _ = run(*arguments, "--dry-run")
    assert code == 0
    assert "finished: keep" in out
    assert "estimates" not in out
    code, out, _ = run(*arguments, "--aggregation", "max", "--dry-run")
    assert code == 2
    code, out, _ = run(*arguments, "--dry-run", "--overwrite")
    assert "RANDOM WEIGHTS (seed 0)" in out
    assert "Time and memory are estimates" in out


def test_a_dry_run_fetches_nothing(run, people_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    out = str(tmp_path / "out")
    code = main(["--model", "replknet3", NETWORK, "--output", out, "--dry-run", "--device", "cpu"])
    said = capsys.readouterr().out
    assert code == 0
    assert "128 cue-conflict images that would be downloaded" in said
    assert "leave out" in said  # replknet3 has no trained weights
    assert "downloadable" in said
    assert main(["--from-csv", str(people_folder), "--output", out, "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_says_by_which_download_it_is_decided_what_is_kept(run, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "out" / "shapebias"
    folder.mkdir(parents=True)
    (folder / f"{NETWORK}.json").write_text("{}")

    def foresee(*options: str) -> str:
        given = ["--model", NETWORK, "--output", str(tmp_path / "out"), "--dry-run", "--json", "--device", "cpu"]
        assert main([*given, *options]) == 0
        (planned,) = json.loads(capsys.readouterr().out)["runs"]
        return planned["state"]

    stimuli = arguments[:2]
    assert foresee(*stimuli) == "ask, or keep what is there: known when the weights are downloaded"
    assert foresee("--weights", "random") == "ask, or keep what is there: known when the images are downloaded"
    assert foresee() == "ask, or keep what is there: known when the weights and images are downloaded"


def test_a_dry_run_ends_as_the_run_would(run):
    assert run("--model", "nosuch", "--dry-run")[0] == 2
    code, _, err = run("--model", NETWORK, "--weights", "random", "--precision", "float16", "--dry-run")
    assert code == 2
    assert "--precision float16 is for GPUs" in err


def test_a_device_is_checked_with_the_other_options(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--model", NETWORK, "--device", "gpu")
    assert "argument --device: there is no device 'gpu'; did you mean cuda?" in capsys.readouterr().err


@pytest.fixture
def no_work(monkeypatch):
    """Fail if the measurement of networks begins."""

    def fail(config):
        raise AssertionError("the work began")

    monkeypatch.setattr("shapebias.sweep.measure_networks", fail)


@pytest.mark.usefixtures("no_work")
def test_wrong_images_are_refused_before_people_are_looked_for(people_folder, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    for stimuli in (tmp_path / "nowhere", people_folder):
        given = ["--model", NETWORK, "--stimuli", str(stimuli), "--output", str(tmp_path / "out")]
        assert main([*given, "--experiment", "cue-conflict"]) == 2
        assert str(stimuli) in capsys.readouterr().err
        assert main([*given, "--experiment", "cue-conflict", "edge"]) == 2
        assert "no images of cue-conflict, edge" in capsys.readouterr().err
    assert "people" not in caplog.text.replace(str(people_folder), "")


@pytest.mark.usefixtures("no_work")
def test_people_of_another_experiment_are_refused_before_the_work(link_images, people_folder, tmp_path, capsys):
    """The images' names show that these people saw cue-conflict images."""
    for category in CATEGORIES:
        link_images(tmp_path / "edge" / category, [f"{category}{number}.png" for number in range(1, 11)])
    given = ["--model", NETWORK, "--stimuli", str(tmp_path / "edge"), "--output", str(tmp_path / "out")]
    assert main([*given, "--experiment", "edge", "--humans", str(people_folder)]) == 2
    assert "1.csv does not hold answers to edge drawings; choose the --experiment" in capsys.readouterr().err


@pytest.mark.usefixtures("no_work")
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(run, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    code, _, said = run("--model", NETWORK)
    assert code == 2
    assert f"cannot write {tmp_path / 'out'}: {tmp_path / 'out'} is not a folder" in said

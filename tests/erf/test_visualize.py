"""The command line of the receptive-field tool, its files and its pictures."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from support import ROOT

import erf
from erf.figures.maps import plot_contribution
from erf.figures.panels import draw_comparison, draw_result
from erf.gradient.jobs import names_of_weights
from erf.results.files import find_results
from erf.visualize import main


@pytest.fixture
def draw(photo_folder, tmp_path, capsys, caplog):
    """Call the command on four small images and return the exit code, stdout, and the log with stderr."""

    def call(*arguments, images=True):
        base = ["--images", str(photo_folder), "--size", "64"] if images else []
        code = main([*base, "--output", str(tmp_path / "out"), *arguments])
        captured, log = capsys.readouterr(), caplog.text
        caplog.clear()
        return code, captured.out, log + captured.err

    call.folder = tmp_path / "out" / "erf"
    return call


@pytest.fixture
def run(draw, no_pictures):
    """The same, but with empty picture files."""
    return draw


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_one_trained_network(draw):
    code, out, err = draw("--model", "tf_efficientnet_lite0.in1k")
    assert code == 0
    assert "RANDOM" not in out + err
    assert "4/4" in err  # the progress bar
    content = read(draw.folder / "tf_efficientnet_lite0.in1k.json")
    assert content["schema"] == 2
    assert content["weights"]["model"] == "tf_efficientnet_lite0.in1k"
    assert content["weights"]["random"] is False
    assert content["data"]["images_used"] == 4
    assert content["unit"]["feature_map"] == [2, 2]
    assert content["skipped"] == []
    with np.load(draw.folder / "tf_efficientnet_lite0.in1k.npz") as archive:
        contribution = archive["contribution"]
        assert contribution.shape == (64, 64)
        assert contribution.dtype == np.float64
        assert archive["image_rings"].shape == (4, 33)
        assert len(archive["image_names"]) == 4
    areas = {area["threshold"]: area for area in content["results"]["area_ratio"]}
    assert list(areas) == [0.2, 0.3, 0.5, 0.99]
    expected = erf.log_area(contribution)
    assert areas[0.5]["side_px"] == expected[2].side_px
    assert areas[0.5]["ratio"] == expected[2].ratio
    with Image.open(draw.folder / "tf_efficientnet_lite0.in1k.png") as picture:
        assert picture.size[0] > 1000
        assert "python -m erf.visualize" in picture.text["Description"]


@pytest.mark.usefixtures("no_network")
def test_random_weights_are_named_everywhere(run):
    code, out, err = run("--model", "resnet18", "--seed", "7")
    assert code == 0
    assert "RANDOM WEIGHTS (seed 7)" in err
    assert "RANDOM WEIGHTS (seed 7)" in out
    content = read(run.folder / "resnet18.json")
    assert content["weights"]["random"] is True
    assert content["weights"]["label"] == "RANDOM WEIGHTS (seed 7)"
    figure = draw_result(erf.load_result(run.folder / "resnet18.npz"))
    assert "RANDOM WEIGHTS (seed 7)" in [text.get_text() for text in figure.axes[0].texts]


def test_map_equals_the_plain_definition(run, photo_folder):
    """The tool writes the mean over images of `contribution_map`, for the same network and the same inputs."""
    from erf.gradient.images import read_image
    from erf.gradient.ready import to_input
    from replknet import load_model

    assert run("--model", "resnet18", "--weights", "random", "--precision", "float64")[0] == 0
    assert read(run.folder / "resnet18.json")["precision"] == "float64"
    loaded = load_model("resnet18", "random")
    loaded.model.double()
    images = [to_input(read_image(p, (64, 64)), loaded.preprocessing) for p in sorted(photo_folder.rglob("*.png"))]
    expected = torch.stack([erf.contribution_map(loaded.model, image[None].double()) for image in images]).mean(0)
    np.testing.assert_allclose(erf.load_result(run.folder / "resnet18.npz").contribution, expected, rtol=1e-12)


def test_plain_form_is_recorded(run):
    arguments = ["--model", "tf_efficientnet_lite0.in1k", "--num-images", "1"]
    assert run(*arguments, "--plain")[0] == 0
    assert read(run.folder / "tf_efficientnet_lite0.in1k.json")["plain"] is True
    code, _, err = run(*arguments)
    assert code == 2
    assert "plain: True -> False" in err


def test_comparison(draw):
    names = ["test_efficientnet", "test_resnet"]
    code, out, _ = draw("--model", *names, "--weights", "random", "--formats", "png", "pdf", "svg")
    assert code == 0
    assert all(name in out for name in names)
    for suffix in ("png", "pdf", "svg", "csv", "json"):
        assert (draw.folder / f"comparison.{suffix}").stat().st_size > 500
    with (draw.folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (4 + 5)
    assert {row["random_weights"] for row in rows} == {"True"}
    assert [m["name"] for m in read(draw.folder / "comparison.json")["models"]] == names


def test_every_stage_trained_beside_untrained(run):
    """One run writes a file for each map and compares all; squares and theoretical fields are those of each stage."""
    name = "tf_efficientnet_lite0.in1k"
    code, out, _ = run("--model", name, "--weights", "pretrained", "random", "--layer", "all", "--num-images", "2")
    assert code == 0
    stems = [f"{name}.{weights}.layer-{i}" for weights in ("pretrained", "random") for i in range(5)]
    assert sorted(path.stem for path in run.folder.glob("*.npz")) == stems
    contents = [read(run.folder / f"{stem}.json") for stem in stems]
    assert [content["layer"] for content in contents] == [*"01234"] * 2
    assert [content["weights"]["random"] for content in contents] == [False] * 5 + [True] * 5
    sides = [content["theoretical_field"]["side_px"][0] for content in contents[:5]]
    assert sides == sorted(sides)
    assert sides[-1] == 851
    ratio = contents[4]["results"]["theoretical_ratio"][2]
    side = contents[4]["results"]["mass_area_ratio"][2]["side_interpolated_px"]
    assert ratio["ratio"] == pytest.approx(side / 851)
    with (run.folder / "comparison-differences.csv").open() as file:
        pairs = {(row["model"], row["minus"]) for row in csv.DictReader(file)}
    assert len(pairs) == 10 * 9 / 2
    assert out.count("RANDOM WEIGHTS (seed 0)") == 2 * 5


def test_several_sizes(run):
    arguments = ("--model", "resnet18", "--weights", "random", "--num-images", "1", "--size", "64", "96")
    assert run(*arguments)[0] == 0
    for size in (64, 96):
        assert erf.load_result(run.folder / f"resnet18.size-{size}.npz").contribution.shape == (size, size)
    assert "finished already and is kept" in run(*arguments)[2]


def test_any_position_and_their_average(run):
    arguments = ("--model", "resnet18", "--weights", "random", "--num-images", "2", "--layer", "2")
    assert run(*arguments, "--position", "0.25", "0.75")[0] == 0
    content = read(run.folder / "resnet18.json")
    assert content["unit"]["indices"] == [[2, 6]]  # of 8 x 8
    assert content["unit"]["centre_px"] == content["results"]["centre_px"] == [16, 48]
    assert abs(content["results"]["offset_px"]) < 8  # from there, not from the image's middle
    code, _, err = run(*arguments)
    assert code == 2
    assert "position: [0.25, 0.75] -> (absent)" in err
    assert run(*arguments, "--position", "average", "--overwrite")[0] == 0
    content = read(run.folder / "resnet18.json")
    assert len(content["unit"]["indices"]) == 9
    assert content["unit"]["centre_px"] == [32, 32]
    assert content["results"]["interval"]["resamples"] == 2000


def test_finished_results_are_kept_or_refused(run):
    arguments = ("--model", "resnet18", "--weights", "random")
    assert run(*arguments)[0] == 0
    npz = run.folder / "resnet18.npz"
    before = npz.stat().st_mtime_ns
    code, _, err = run(*arguments)
    assert (code, npz.stat().st_mtime_ns) == (0, before)
    assert "finished already and is kept" in err
    code, _, err = run(*arguments, "--seed", "1")
    assert code == 2
    assert "weights.seed: 0 -> 1" in err
    assert "--overwrite" in err
    assert run(*arguments, "--seed", "1", "--overwrite")[0] == 0
    assert npz.stat().st_mtime_ns != before


def test_interrupted_run_is_continued(run, monkeypatch):
    arguments = ("--model", "resnet18", "--weights", "random")
    assert run(*arguments)[0] == 0
    whole = erf.load_result(run.folder / "resnet18.npz").contribution
    for file in run.folder.iterdir():
        file.unlink()
    from erf.gradient import accumulate

    calls = []
    original = accumulate.central_gradients

    def interrupt_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(accumulate, "central_gradients", interrupt_third)
    code, _, err = run(*arguments)
    assert code == 130
    assert "Continue with: python -m erf.visualize" in err
    assert err.rstrip().endswith("--resume")
    assert not (run.folder / "resnet18.npz").exists()
    code, _, err = run(*arguments)
    assert code == 2
    assert "--resume continues it" in err
    code, _, err = run(*arguments, "--resume")
    assert code == 0
    assert "going on after image 2 of 4" in err
    assert np.array_equal(erf.load_result(run.folder / "resnet18.npz").contribution, whole)
    assert not list(run.folder.glob("*.partial.npz"))


def test_from_npz_needs_no_torch(run, tmp_path):
    assert run("--model", "resnet18", "--weights", "random")[0] == 0
    code = (
        "import sys; from erf.visualize import main; "
        f"code = main(['--from-npz', {str(run.folder / 'resnet18.npz')!r}, '--output', {str(tmp_path / 'again')!r}]); "
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
    again = read(tmp_path / "again" / "erf" / "resnet18.json")
    assert again["results"] == read(run.folder / "resnet18.json")["results"]


def test_what_lies_beside_a_result_and_its_folder_stand_for_it(run, tmp_path):
    assert run("--model", "resnet18", "--weights", "random", "--size", "64", "96", "--num-images", "1")[0] == 0
    first, second = sorted(run.folder.glob("*.npz"))
    assert find_results([first.with_suffix(".json"), first, first.with_suffix(".png")]) == [first]
    for named in (run.folder, run.folder.parent):
        assert find_results([named]) == [first, second]
    for named in (first.with_suffix(".json"), run.folder):
        code, out, _ = run("--from-npz", str(named), "--output", str(tmp_path / "again"), images=False)
        assert code == 0
        assert "resnet18.size-64" in out
    code, _, err = run("--from-npz", str(tmp_path / "again" / "erf" / "nothing.json"), images=False)
    assert (code, "nothing.json does not exist; name a .npz" in err) == (2, True)
    alone = tmp_path / "alone.json"
    alone.write_bytes(first.with_suffix(".json").read_bytes())
    code, _, err = run("--from-npz", str(alone), images=False)
    assert (code, "alone.npz does not exist; the result's map lies in it, not in alone.json" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    code, _, err = run("--from-npz", str(tmp_path / "empty"), images=False)
    assert (code, "empty holds no results of erf.visualize (.npz)" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["random", "pretrained"], ["random", "pretrained"]),
        (["a/one.pth", "a/two.pth"], ["one", "two"]),
        (["x/a/best.pth", "x/b/best.pth", "last.pth"], ["a/best", "b/best", "last"]),
        (["a/x/best.pth", "b/x/best.pth"], ["a/x/best", "b/x/best"]),
        (["a/best.pth#model", "a/best.pth#ema"], ["best#model", "best#ema"]),
        (["a/best.pth#ema", "b/best.pth#ema"], ["a/best#ema", "b/best#ema"]),
        (["a/best.pth", "a/best.pt"], ["best.pth", "best.pt"]),
        (["random", "a/random.pth"], ["random", "a/random"]),
    ],
)
def test_checkpoints_of_one_file_name_are_told_apart(options, names):
    assert list(names_of_weights(options).values()) == names


def test_two_checkpoints_of_one_file_name(run, tmp_path):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        torch.manual_seed(number)
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / folder / "best.pth")
    paths = [str(tmp_path / folder / "best.pth") for folder in ("a", "b")]
    code, out, _ = run("--model", "test_resnet", "--weights", *paths, "--num-images", "1")
    assert code == 0
    assert "test_resnet.a/best" in out
    assert sorted(path.name for path in run.folder.glob("*.npz")) == [
        "test_resnet.a-best.npz",
        "test_resnet.b-best.npz",
    ]


def test_files_of_schema_1_are_read(run, tmp_path):
    """Such a file has only ring sums, so that everything but the intervals is measured."""
    assert run("--model", "resnet18", "--weights", "random")[0] == 0
    now = erf.load_result(run.folder / "resnet18.npz")
    provenance = np.array(json.dumps({"name": now.name, **now.provenance, "schema": 1}))
    np.savez(tmp_path / "old.npz", contribution=now.contribution, image_rings=now.sums.rings, provenance=provenance)
    old = erf.load_result(tmp_path / "old.npz")
    assert old.sums is None
    assert old.num_images == 4
    assert run("--from-npz", str(tmp_path / "old.npz"), images=False)[0] == 0
    assert read(run.folder / "resnet18.json")["results"]["area_ratio"] == erf.measure(now.contribution)["area_ratio"]


def test_skipped_images_are_named(run, photo_folder):
    (photo_folder / "class0" / "0.png").write_text("no image")
    assert run("--model", "resnet18", "--weights", "random")[0] == 0
    content = read(run.folder / "resnet18.json")
    assert content["data"]["images_used"] == 3
    assert content["skipped"][0]["image"] == "class0/0.png"


def test_a_map_of_zeros_is_an_error_with_its_cause(run, monkeypatch):
    """If the central unit of a network is never positive, there is nothing to measure, and no file is written."""
    import timm

    original = timm.create_model

    def dead(*args, **kwargs):
        model = original(*args, **kwargs)
        torch.nn.init.zeros_(model.bn1.weight)
        return model

    monkeypatch.setattr("replknet.zoo.find_branches", lambda model: [])
    monkeypatch.setattr("timm.create_model", dead)
    code, _, err = run("--model", "resnet18", "--weights", "random")
    assert code == 2
    assert "zero everywhere" in err
    assert not list(run.folder.glob("*")) if run.folder.exists() else True


def test_no_readable_image_is_an_error(run, photo_folder):
    for path in photo_folder.rglob("*.png"):
        path.write_text("no image")
    code, _, err = run("--model", "resnet18", "--weights", "random")
    assert code == 2
    assert "no image could be used (class0/0.png" in err
    assert not list(run.folder.glob("*")) if run.folder.exists() else True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "replknet31"], "did you mean replknet31"),
        (["--model", "resnet18", "--weights", "missing.pth"], "does not exist"),
        (["--model", "resnet18", "--weights", "random", "--layer", "layer9"], "no such module"),
        (["--model", "resnet18", "--weights", "random", "--size", "8"], "at least 32"),
        (["--model", "resnet18", "--weights", "random", "--images", "nowhere"], "--images nowhere does not exist"),
        (["--model", "resnet18", "--weights", "random", "--device", "cuda:77"], "cuda:77 cannot be used"),
        (["--model", "resnet18", "resnet18", "--weights", "random"], "named more than once"),
        (["--model", "resnet18", "--weights", "a/x.pth", "a/x.pth"], "named more than once"),
        (["--model", "resnet18", "--weights", "a/x.pth", "a-x.pth", "b/x.pth"], "named more than once"),
        (["--model", "resnet18", "--size", "64", "64"], "named more than once"),
        (["--from-npz", "nowhere.npz"], "does not exist"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(run, arguments, message):
    code, out, err = run(*arguments, images="--from-npz" not in arguments)
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err


@pytest.mark.usefixtures("no_network")
def test_pretrained_that_cannot_be_had_exits_2(run):
    code, _, err = run("--model", "replknet31b", "--weights", "pretrained")
    assert code == 2
    assert "download.openmmlab.com does not answer" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "a", "--from-npz", "b"],
        ["--precision", "int8"],
        ["--model", "a", "--batch-size", "0"],
        ["--model", "a", "--position", "1", "0"],
        ["--model", "a", "--position", "left"],
    ],
)
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_help_is_quick_and_shows_examples():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "erf.visualize", "--help"],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
    )
    assert done.returncode == 0
    assert done.stdout.count("python -m erf.visualize --model") >= 2
    assert "torch" not in done.stderr
    assert "matplotlib" not in done.stderr


def gaussian(sigma=6.0, size=65):
    distance = np.arange(size) - size // 2
    profile = np.exp(-(distance**2) / (2 * sigma**2))
    return 1e3 * profile[:, None] * profile[None, :]


def test_heatmap_has_fixed_limits_and_the_squares():
    ax = plot_contribution(gaussian(), scale="published")
    (image,) = ax.images
    assert image.get_clim() == (0.0, 1.0)
    assert image.get_array().max() == 1.0
    sides = [patch.get_width() for patch in ax.patches]
    assert sides == [area.side_px for area in erf.log_area(gaussian()) if area.reached]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["published squares:", "20%", "30%", "50%", "99%"]
    assert "log" in ax.figure.axes[1].get_ylabel()
    centre = ax.patches[0].get_x() + ax.patches[0].get_width() / 2
    assert centre == 32


def test_scale_of_decades_is_free_of_the_gradients_scale():
    small, large = (plot_contribution(gaussian() * factor, scale="decades").images[0] for factor in (1e-3, 1e3))
    np.testing.assert_allclose(small.get_array(), large.get_array(), atol=1e-9)
    assert small.get_clim() == (-4.0, 0.0)
    with pytest.raises(ValueError, match="take one of decades, published"):
        plot_contribution(gaussian(), scale="linear")


def test_squares_that_are_not_reached_are_left_out():
    contribution = np.zeros((33, 40))
    contribution[0, 0] = contribution[16, 20] = 1.0
    ax = plot_contribution(contribution, cbar=False)
    assert len(ax.patches) == 2  # 20% and 30%; no square has more than one of the two points


@pytest.mark.parametrize("count", [2, 5])
def test_comparison_panels_share_limits_and_list_every_network(run, count):
    assert run("--model", "resnet18", "--weights", "random", "--num-images", "1")[0] == 0
    result = erf.load_result(run.folder / "resnet18.npz")
    results = [erf.ErfResult(f"net{i}", result.contribution, result.provenance) for i in range(count)]
    figure = draw_comparison(results)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == count
    assert {ax.images[0].get_clim() for ax in panels} == {(-4.0, 0.0)}
    texts = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert all(f"net{i}, RANDOM WEIGHTS" in texts for i in range(count))


def test_networks_at_several_sizes_get_a_column_each(run):
    assert run("--model", "resnet18", "--weights", "random", "--num-images", "1")[0] == 0
    result = erf.load_result(run.folder / "resnet18.npz")

    def at(model, size):
        provenance = {**result.provenance, "identity": {**result.provenance["identity"], "model": model}}
        return erf.ErfResult(f"{model}.size-{size}", result.contribution, provenance)

    figure = draw_comparison([at(model, size) for model in "abc" for size in (64, 128)])
    panels = [ax for ax in figure.axes if ax.images and ax.get_title()]
    assert [ax.get_title() for ax in panels] == [f"{model}.size-{size}" for size in (64, 128) for model in "abc"]
    bottoms = [ax.get_position().y0 for ax in panels]
    assert bottoms == pytest.approx([bottoms[0]] * 3 + [bottoms[3]] * 3)
    assert bottoms[0] > bottoms[3] + 0.1


def test_a_reduced_precision_says_what_it_costs(run):
    network = ("--model", "test_resnet", "--weights", "random", "--num-images", "1")
    code, _, err = run(*network, "--precision", "bfloat16")
    assert code == 0
    assert "in bfloat16 the map of class0/0.png differs from float32 by" in err
    saved = read(run.folder / "test_resnet.json")
    assert saved["precision_difference"]["image"] == "class0/0.png"
    assert 1e-4 < saved["precision_difference"]["relative_l2"] < 1


@pytest.mark.parametrize("precision", ["float16", "tf32"])
def test_precisions_that_only_cuda_has(run, precision):
    code, _, err = run("--model", "resnet18", "--weights", "random", "--precision", precision, "--device", "cpu")
    assert code == 2
    assert "needs a CUDA device; cpu has float32, float64 and bfloat16" in err

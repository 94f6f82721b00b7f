"""Maps of single images: kept bit for bit through interruptions, drawn as sheets, and refused if they are missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import erf
from erf.results.files import find_results, results_in
from erf.results.single_maps import load_maps, scaled_half
from erf.visualize import main
from runkit import UserError

NETWORK = ("--model", "test_resnet", "--weights", "random")


@pytest.fixture
def run(photo_folder, tmp_path, capsys, monkeypatch):
    """Call the command on four small images, with empty picture files; return the exit code and the messages."""
    monkeypatch.setattr(Figure, "savefig", lambda self, target, **_: Path(target).touch())

    def call(*arguments):
        base = [] if "--from-npz" in arguments else ["--images", str(photo_folder), "--size", "64"]
        code = main([*base, "--quiet", "--output", str(tmp_path / "out"), *arguments])
        return code, capsys.readouterr().err

    call.folder = tmp_path / "out" / "erf"
    return call


@pytest.fixture
def interrupt_third_image(monkeypatch):
    """Return a function after whose call the third image interrupts the run, once."""
    from erf.gradient import accumulate

    calls, original = [], accumulate.central_gradients

    def interrupt_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    return lambda: monkeypatch.setattr(accumulate, "central_gradients", interrupt_third)


def test_an_interrupted_run_keeps_the_same_maps(run, interrupt_third_image):
    assert run(*NETWORK, "--keep-maps", "--overlay")[0] == 0
    names = {path.name for path in run.folder.iterdir()}
    assert {"test_resnet.maps.npz", "test_resnet.maps.png", "test_resnet.overlay.png"} <= names
    whole = erf.load_result(run.folder / "test_resnet.npz", maps=True)
    assert whole.maps.maps.dtype == np.float16
    assert whole.maps.maps.shape == (4, 64, 64)
    assert whole.maps.photographs.shape == (4, 64, 64, 3)
    assert whole.maps.names == whole.image_names
    mean = (whole.maps.maps * whole.maps.maxima[:, None, None]).mean(axis=0)
    np.testing.assert_allclose(mean, whole.contribution, atol=1e-3 * whole.contribution.max())
    for file in run.folder.iterdir():
        file.unlink()
    interrupt_third_image()
    assert run(*NETWORK, "--keep-maps")[0] == 130
    assert run(*NETWORK, "--keep-maps", "--resume")[0] == 0
    again = erf.load_result(run.folder / "test_resnet.npz", maps=True)
    assert np.array_equal(again.maps.maps, whole.maps.maps)
    assert np.array_equal(again.maps.maxima, whole.maps.maxima)
    assert np.array_equal(again.contribution, whole.contribution)


def test_progress_without_maps_does_not_end_in_a_result_with_some(run, interrupt_third_image):
    interrupt_third_image()
    assert run(*NETWORK)[0] == 130
    code, log = run(*NETWORK, "--overlay", "--resume")
    assert (code, "did not keep the maps of its images" in log) == (2, True)
    assert run(*NETWORK, "--resume")[0] == 0
    assert not (run.folder / "test_resnet.maps.npz").exists()


def test_maps_asked_for_later_are_computed_and_drawn_again_from_the_file(run, tmp_path):
    assert run(*NETWORK)[0] == 0
    before = erf.load_result(run.folder / "test_resnet.npz")
    path = run.folder / "test_resnet.npz"
    code, log = run("--from-npz", str(path), "--overlay")
    assert (code, "test_resnet.maps.npz does not exist; a run with --keep-maps writes it" in log) == (2, True)
    assert run(*NETWORK, "--keep-maps")[0] == 0
    assert np.array_equal(erf.load_result(path).contribution, before.contribution)
    assert results_in(run.folder) == [path]
    everything = sorted(run.folder.glob("*.npz")) + sorted(run.folder.glob("*.png"))
    assert find_results(everything) == [path]
    arrays = map(str, sorted(run.folder.glob("*.npz")))
    assert run("--from-npz", *arrays, "--overlay", "--output", str(tmp_path / "drawn"))[0] == 0
    names = sorted(file.name for file in (tmp_path / "drawn" / "erf").iterdir())
    assert names == ["test_resnet.json", "test_resnet.overlay.png", "test_resnet.png"]


def test_from_python(photo_folder, tmp_path):
    result = erf.analyze("test_resnet", photo_folder, size=64, weights="random", keep_maps=True)
    written = result.save(tmp_path / "mine.npz")
    assert [path.name for path in written] == ["mine.npz", "mine.json", "mine.maps.npz"]
    loaded = erf.load_result(written[0], maps=True)
    assert np.array_equal(loaded.maps.maps, result.maps.maps)
    assert json.loads(written[1].read_text(encoding="utf-8"))["config"]["keep_maps"] is True
    figure = erf.draw_sheet(loaded, overlay=True, width="column", outlines=("gaussian",))
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == list(result.image_names)
    assert all(len(ax.images) == 2 for ax in panels)
    with pytest.raises(ValueError, match="has no maps of single images"):
        erf.draw_sheet(erf.load_result(written[0]))
    with pytest.raises(UserError, match="does not exist; a run with --keep-maps"):
        load_maps(tmp_path / "nothing.maps.npz", {})
    other = {**result.provenance["identity"], "seed": 1}
    with pytest.raises(UserError, match="is of another run than the result next to it"):
        load_maps(written[2], other)


def test_a_sheet_names_given_weights_and_says_what_part_is_shown(photo_folder):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU()).eval()
    result = erf.analyze(network, photo_folder, size=64, keep_maps=True)
    words = " ".join(text.get_text().replace("\n", " ") for text in erf.draw_sheet(result, crop=16).texts)
    assert "weights as given" in words
    assert "Only 16 × 16 pixels around the unit are shown" in words
    assert "pixels around the unit" not in " ".join(t.get_text() for t in erf.draw_sheet(result, crop="none").texts)


def test_half_precision_keeps_four_decades():
    contribution = np.geomspace(1e-9, 1e-5, 1000).reshape(20, 50)
    half, largest = scaled_half(contribution)
    np.testing.assert_allclose(half.astype(np.float64) * largest, contribution, rtol=2e-3)
    assert scaled_half(np.zeros((3, 3)))[1] == 0

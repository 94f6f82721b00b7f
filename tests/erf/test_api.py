"""Receptive fields from Python: any `nn.Module`, and the display in a notebook."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import erf
from runkit import UserError


@pytest.fixture
def network() -> nn.Module:
    """Two 5 x 5 convolutions, whose field has a side of 9 pixels."""
    model = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 4, 5, padding=2)).eval()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return model


def test_from_a_plain_module_to_a_picture(network):
    contribution = erf.contribution_map(network, torch.ones(2, 3, 32, 40))
    inside = np.zeros((32, 40), bool)
    inside[12:21, 16:25] = True  # round the unit (16, 20)
    assert np.array_equal(contribution.numpy() > 0, inside)
    measured = erf.measure(contribution)
    assert measured["mass_area_ratio"][-1]["side_px"] == 9
    ax = erf.plot(contribution)
    assert ax.images[0].get_array().shape == (32, 40)


def test_a_module_that_gives_no_map_says_what_to_name(network):
    with pytest.raises(ValueError, match=r"name a submodule instead \(--layer\), such as 0, 1, 2"):
        erf.contribution_map(nn.Sequential(*network, nn.Flatten()).eval(), torch.ones(1, 3, 32, 32))


def test_measures_are_known_by_their_name_and_shown_as_a_table(network):
    measured = erf.measure(erf.contribution_map(network, torch.ones(1, 3, 33, 33)))
    assert measured["rms_radius_px"] == measured.as_dict()["rms_radius_px"] > 0
    assert repr(measured).startswith("Measured(33 x 33 pixels; mass: 20% in ")
    table = measured._repr_html_()
    assert table.count("<tr>") == 30  # a header, and a row a measure and threshold
    assert f">{measured['rms_radius_px']:.4g}<" in table
    with pytest.raises(KeyError, match="size"):
        measured["size"]


def test_a_result_is_shown_as_a_picture(network):
    contribution = erf.contribution_map(network, torch.ones(1, 3, 33, 33)).numpy()
    weights = {"label": "RANDOM WEIGHTS (seed 0)", "random": True}
    data, versions = {"images_used": 1, "name": "ones"}, {"replknet-analysis": None, "torch": "2", "timm": "1"}
    provenance = {"weights": weights, "data": data, "layer": "last", "precision": "float32", "versions": versions}
    result = erf.ErfResult("net", contribution, provenance)
    assert repr(result) == "ErfResult(net, RANDOM WEIGHTS (seed 0), 33 x 33 pixels, 1 images)"
    before = plt.get_fignums()
    assert erf.draw_result(result)._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == before
    ax = erf.plot(result, scale="published")
    assert ax.get_title() == "net\nRANDOM WEIGHTS (seed 0)"


def test_photographs_as_a_batch(photo_folder):
    assert erf.load_images(size=64).shape == (5, 3, 64, 64)
    batch = erf.load_images(photo_folder, num_images=2, size=32)
    assert batch.shape == (2, 3, 32, 32)
    with Image.open(sorted(photo_folder.rglob("*.png"))[0]) as image:
        pixels = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    red = (pixels[..., 0] - 0.485) / 0.229
    np.testing.assert_allclose(batch[0, 0].numpy(), red, atol=1e-6)
    (photo_folder / "class0" / "0.png").write_text("no image")
    with pytest.raises(UserError, match="cannot read the image"):
        erf.load_images(photo_folder)

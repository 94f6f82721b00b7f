"""Units other than the central one: the right unit, the right pixel, and maps superimposed without a seam."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from erf.gradient.contribution import central_gradients
from erf.gradient.lean.read import lean_form
from erf.gradient.positions import AVERAGE, CENTRE, Position, align, centre_pixel, positions_of, unit_at


def test_places_units_and_pixels():
    assert unit_at(CENTRE, (7, 32)) == (3, 16)
    assert unit_at(Position(0.99, 0.0), (7, 32)) == (6, 0)
    assert centre_pixel(CENTRE, (7, 7), (224, 224)) == (112, 112)  # as published
    assert centre_pixel(Position(0.25, 0.75), (32, 32), (1024, 1024)) == (256, 768)
    assert centre_pixel(Position(0.0, 0.99), (7, 7), (224, 224)) == (112 - 96, 112 + 96)
    assert positions_of("centre") == (CENTRE,)
    assert positions_of("average") == AVERAGE
    assert len(AVERAGE) == 9
    assert positions_of((0.1, 0.2)) == (Position(0.1, 0.2),)


class Blur(nn.Module):
    """One convolution of stride 4: every unit has the same field, except where the border of the image cuts it off."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 25, stride=4, padding=12)
        nn.init.uniform_(self.conv.weight, 0.1, 1.0)
        self.double().eval()

    def forward_features(self, x):
        return self.conv(x)


@pytest.mark.parametrize("position", AVERAGE)
def test_a_unit_elsewhere_has_the_moved_map(position):
    network, x = Blur(), torch.ones(1, 3, 64, 64, dtype=torch.float64)
    middle, size = central_gradients(network, x)
    moved, _ = central_gradients(network, x, position=position)
    centre = centre_pixel(position, size, (64, 64))
    shift = (centre[0] - 32, centre[1] - 32)
    torch.testing.assert_close(moved, torch.roll(middle, shift, dims=(1, 2)))


def test_maps_of_equal_units_average_to_one_of_them():
    network, x = Blur(), torch.ones(2, 3, 64, 64, dtype=torch.float64)
    parts = [central_gradients(network, x, position=position) for position in AVERAGE]
    centres = [centre_pixel(position, (16, 16), (64, 64)) for position in AVERAGE]
    joined = align([part.maps.numpy() for part in parts], centres)
    np.testing.assert_allclose(joined, central_gradients(network, x).maps.numpy(), atol=1e-12)


def test_pixels_outside_of_the_image_do_not_count():
    maps = [np.full((1, 8, 8), 2.0), np.full((1, 8, 8), 4.0)]
    joined = align(maps, [(4, 4), (6, 4)])  # the second is moved up by two: it has no pixels for the last two rows
    assert joined[0, 0, 0] == 3.0
    assert joined[0, 7, 0] == 2.0


@pytest.mark.parametrize("position", [Position(0.0, 0.99), Position(0.3, 0.0), Position(0.75, 0.5)])
def test_the_lean_form_asks_the_same_unit(position):
    model = timm.create_model("resnet18").double().eval()
    x = torch.rand(1, 3, 96, 128, dtype=torch.float64)
    expected = central_gradients(model, x, position=position)
    lean = lean_form(model, "last", x)
    found = central_gradients(lean, x, position=position)
    assert found.feature_size == expected.feature_size
    torch.testing.assert_close(found.maps, expected.maps)

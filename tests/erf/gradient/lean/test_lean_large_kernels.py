"""The lean form of the zoo's large-kernel networks gives the plain map: LayerNorm, GRN, gates, layer scales."""

import pytest
import timm
import torch
from support import randomize_norms

import replknet  # noqa: F401  registers its networks
from erf.gradient.contribution import central_gradients
from erf.gradient.lean.read import lean_form
from replknet.optimize import optimize, use_stock_convolutions

_NAMES = ["van_b0", "moganet_xtiny", "unireplknet_a", "slak_tiny", "shiftwise_tiny"]


def trained_like(name):
    """A network as after training: no parameter tensor is all 0 or all 1, so that every step has an effect."""
    torch.manual_seed(0)
    model = randomize_norms(timm.create_model(name)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2 or not parameter.any():  # layer scales, and the weights of GRN
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", _NAMES)
def test_the_map_is_the_plain_one(name):
    model = trained_like(name)
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    expected = central_gradients(use_stock_convolutions(model), x).maps
    found = central_gradients(lean_form(optimize(trained_like(name)), "last", x), x).maps
    assert expected.any()
    assert (found - expected).norm() < 1e-8 * expected.norm()

"""The last map of every family of timm: the layer that docs/families.md names, and its map against plain autograd.

The reference uses nothing of this package but the text of the page: a hook on the named module, or timm's own
`forward_intermediates` if the page names no layout, and autograd in float64.
"""

import time
from contextlib import suppress

import pytest
import timm
import torch
from support import load_script

import erf
from replknet import load_model

SMALL = ("test_byobnet", "test_convnext", "test_efficientnet", "test_nfnet", "test_resnet", "test_vit")
BUDGET_S = 1200
"""The sweep over all families leaves out what has not begun after so many seconds."""
_begun = time.monotonic()

families = load_script("families")
ROWS = {row[0]: row for row in families.read_rows()}


def reference(model, x, row):
    """Map of the central unit by hooks and autograd, from the first of two equal images in a batch."""
    _, _, _, module, layout, size, _ = row
    h, w = map(int, size.split(" × "))
    x = torch.cat([x, x]).requires_grad_()
    if layout:
        kept = []

        def keep(module, args, output):
            kept.append(output.clone())
            raise StopIteration

        name, _, key = module.strip("`").partition(":")
        target = model.get_submodule(name)
        handle = (
            target.register_forward_pre_hook(lambda module, args: keep(module, args, args[0]))
            if key == "in"
            else target.register_forward_hook(keep)
        )
        with suppress(StopIteration):
            model(x)
        handle.remove()
        (feat,) = kept
        letters, _, before = layout.partition(", ")
        if letters == "NLC":
            prefix = int(before.split()[0]) if before else 0
            feat = feat[:, prefix:].transpose(1, 2).unflatten(2, (h, w))
        else:
            feat = feat.permute(*map(letters.index, "NCHW"))
    else:
        (feat,) = model.forward_intermediates(x, indices=1, norm=False, intermediates_only=True)
    assert feat.shape[2:] == (h, w)
    (gradient,) = torch.autograd.grad(feat[0, :, h // 2, w // 2].relu().sum(), x)
    return gradient[0].relu().sum(0)


def assert_the_same_map(row):
    size = int(row[2])
    model = load_model(row[1].strip("`"), "random", input_size=(size, size)).model.double()
    x = torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = erf.contribution_map(model, x)
    expected = reference(model.requires_grad_(False), x, row)
    assert expected.sum() > 0
    assert (found - expected).norm() < 1e-6 * expected.norm()


def test_the_page_has_every_family():
    names = timm.list_models()
    modules = {timm.models._registry._model_entrypoints[name].__module__ for name in names}
    assert list(ROWS) == sorted(families.NETWORKS)
    assert set(ROWS) == {module.rpartition(".")[2] for module in modules if module.startswith("timm.models.")}


@pytest.mark.parametrize("network", SMALL)
def test_last_map_of_small_networks(network):
    (family,) = [name for name, chosen in families.NETWORKS.items() if chosen == network]
    assert families.find_row(family) == ROWS[family]
    assert_the_same_map(ROWS[family])


@pytest.mark.sweep
@pytest.mark.parametrize("family", ROWS)
def test_last_map_of_every_family(family):
    if time.monotonic() - _begun > BUDGET_S:
        pytest.skip("no time left for this family")
    assert families.find_row(family) == ROWS[family]
    assert_the_same_map(ROWS[family])

import pytest
import timm

import replknet  # noqa: F401  registers the networks
from runkit.groups import GROUPS, expand_groups


def test_every_network_of_a_group_exists():
    known = set(timm.list_models())
    assert {name for group in GROUPS.values() for name in group} <= known


def test_the_large_kernel_group_holds_every_network_of_the_families():
    families = ("unireplknet", "slak", "overlock", "van_b", "moganet", "shiftwise")
    registered = {name for name in timm.list_models() if name.startswith(families)}
    assert registered == set(GROUPS["large-kernels"]) - {"replknet31b"}
    assert set(GROUPS["large-kernels-small"]) < set(GROUPS["large-kernels"])


def test_a_group_keeps_the_order_and_names_nothing_twice():
    small = GROUPS["large-kernels-small"]
    assert expand_groups(["van_b0", "@large-kernels-small", "resnet18"]) == [
        "van_b0",
        *(name for name in small if name != "van_b0"),
        "resnet18",
    ]


def test_an_unknown_group_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"--model @big: there is no such group; there are @large-kernels, "):
        expand_groups(["resnet18", "@big"])

"""Groups of networks that can be given on a command line as one word, such as `@large-kernels`."""

from collections.abc import Iterable

__all__ = ["GROUPS", "expand_groups"]

_UNIREPLKNET = tuple(f"unireplknet_{size}" for size in ("a", "f", "p", "n", "t", "s", "b", "l", "xl"))
_SLAK = ("slak_tiny", "slak_small", "slak_base")
_OVERLOCK = ("overlock_xt", "overlock_t", "overlock_s", "overlock_b")
_VAN = ("van_b0", "van_b1", "van_b2", "van_b3")
_MOGANET = tuple(f"moganet_{size}" for size in ("xtiny", "tiny", "small", "base", "large", "xlarge"))

GROUPS = {
    "large-kernels": ("replknet31b", *_UNIREPLKNET, *_SLAK, *_OVERLOCK, *_VAN, *_MOGANET, "shiftwise_tiny"),
    "large-kernels-small": (
        "replknet31b",
        "unireplknet_a",
        "slak_tiny",
        "overlock_xt",
        "van_b0",
        "moganet_xtiny",
        "shiftwise_tiny",
    ),
    "large-kernel-relatives": (
        "convnext_tiny",
        "convnextv2_tiny",
        "inception_next_tiny",
        "focalnet_tiny_lrf",
        "focalnet_tiny_srf",
        "convmixer_768_32",
        "mambaout_tiny",
        "convformer_s18",
        "rdnet_tiny",
        "starnet_s4",
        "edgenext_base",
        "fastvit_sa12",
        "repvit_m1_1",
        "repvgg_b0",
        "mobileone_s1",
        "hgnetv2_b4",
        "fasternet_t2",
        "swinv2_tiny_window8_256",
        "nextvit_small",
        "maxvit_tiny_tf_224",
        "caformer_s18",
        "hiera_tiny_224",
        "davit_tiny",
        "xcit_tiny_12_p16_224",
        "gcvit_tiny",
        "pvt_v2_b2",
        "vitamin_small_224",
        "deit3_small_patch16_224",
        "vit_small_patch14_dinov2",
        "vit_small_patch16_dinov3",
    ),
}
"""Networks of each group: every large-kernel network of the zoo; the smallest of each family; and timm networks with
which papers on large kernels compare, one size of each family."""


def expand_groups(names: Iterable[str]) -> list[str]:
    """Replace each `@GROUP` by the networks of the group, leaving out those that are already named.

    Raises: ValueError for an unknown group.
    """
    expanded: list[str] = []
    for name in names:
        if not name.startswith("@"):
            expanded.append(name)
            continue
        if name[1:] not in GROUPS:
            raise ValueError(f"--model {name}: there is no such group; there are {', '.join(f'@{g}' for g in GROUPS)}")
        expanded += [network for network in GROUPS[name[1:]] if network not in expanded]
    return expanded

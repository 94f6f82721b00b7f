"""The claims in the paper's order. Tables, figures and guidelines are those of arXiv:2203.06717."""

from erf.claims.claim import Claim

__all__ = ["CLAIMS", "names"]

CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="cost",
        statement="Kernels 31, 29, 27, 13 in place of 3×3 make the network little larger.",
        source="Guideline 1 and Table 5",
        paper="18.6% more FLOPs, 10.4% more parameters",
        criterion="both increases, of merged networks, within half a percentage point of the paper's",
        limits="Exact counts at 224×224 pixels. The paper divides figures that were rounded for its table.",
        experiment_path="erf.claims.cost:EXPERIMENT",
    ),
    Claim(
        name="latency",
        statement="With a fitting implementation the latency of depthwise convolutions grows less than their FLOPs.",
        source="Guideline 1 and Table 1",
        paper="depthwise layers fall from 49.5% to 12.3% of the network's latency, roughly their share of the FLOPs",
        criterion="with our operator, at every map size, latency grows as a power of the FLOPs below one",
        limits="Single layers of the paper's Table 1 as the table has them, on CPU with batch 1; the paper runs 24 on "
        "a GPU with batch 64. FLOPs are nominal, taps on padding included.",
        experiment_path="erf.claims.latency:EXPERIMENT",
    ),
    Claim(
        name="small-maps",
        statement="On small maps large kernels relax shift equivariance: neighbours share only a part of the taps.",
        source="Guideline 5, remark",
        paper="no figure; kernels up to 13×13 on maps of 7×7",
        criterion="on 7×7 maps, each larger kernel has fewer shared taps and a larger error after a shift",
        limits="Geometry of one layer with random weights. It does not show that accuracy gains from it.",
        experiment_path="erf.claims.small_maps:EXPERIMENT",
    ),
    Claim(
        name="growth",
        statement="The effective receptive field grows as K·sqrt(L): a large kernel sees farther than a stack of small "
        "ones of the same theoretical field.",
        source="Section 5, after Luo et al. (arXiv:1701.04128)",
        paper="exponents 1 of the kernel and 0.5 of the depth",
        criterion="fitted exponents within 0.1 of these, and the one large kernel wider, for every kind of stack",
        limits="Plain stacks of 16 channels without shortcuts or normalisation, on noise, not trained, K·sqrt(L) "
        "at most 128. It shows how width follows from geometry at the start, not what training makes of it.",
        experiment_path="erf.claims.growth:EXPERIMENT",
    ),
    Claim(
        name="depth",
        statement="Deeper ResNets hardly have larger effective receptive fields.",
        source="Section 5 and Table 8",
        paper="area ratio at 50%: ResNet-101 3.2%, ResNet-152 3.9%, RepLKNet-31 43.2%",
        criterion="width grows as a power of the depth whose interval lies below 0.5, that of plain stacks",
        limits="Untrained networks say nothing of trained ones: each row says which it is. The paper has 50 images of "
        "ImageNet; here the images are few, and the interval is that of the fit over networks.",
        experiment_path="erf.claims.depth:EXPERIMENT",
    ),
    Claim(
        name="training",
        statement="A trained large-kernel network looks farther than a ResNet; with random weights it is the reverse.",
        source="Section 5 and Table 8, trained networks only; the reverse is ours",
        paper="area ratio at 50%, trained: RepLKNet-31 43.2%, ResNet-101 3.2%",
        criterion="the interval of the paired difference lies above 0 trained, and below 0 for every draw of weights",
        limits="Networks of 2.8 M parameters trained on the ten classes of Imagenette at 96 pixels, one training each.",
        experiment_path="erf.claims.training:EXPERIMENT",
    ),
)


def names() -> list[str]:
    """Names of all claims."""
    return [claim.name for claim in CLAIMS]

"""The claims, in the paper's order. References to tables, figures and guidelines are to arXiv:2203.06717."""

from claims.claim import Claim

__all__ = ["CLAIMS", "names"]

_MINIATURE = (
    "Scaled down: MobileNetV2 at half width with a stem of stride 1, images of 96 pixels, the ten classes of "
    "Imagenette, few epochs and runs; the paper has ImageNet at 224 pixels for 100 epochs, one run. "
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="cost",
        statement="Kernels 31, 29, 27, 13 in place of 3×3 make the network little larger.",
        source="Guideline 1 and Table 5",
        paper="18.6% more FLOPs, 10.4% more parameters",
        criterion="both increases, of merged networks, within half a percentage point of the paper's",
        limits="Exact counts at 224×224 pixels. The paper divides figures that were rounded for its table.",
        experiment_path="claims.experiments.cost:EXPERIMENT",
    ),
    Claim(
        name="latency",
        statement="With a fitting implementation the latency of depthwise convolutions grows less than their FLOPs.",
        source="Guideline 1 and Table 1",
        paper="depthwise layers fall from 49.5% to 12.3% of the network's latency, roughly their share of the FLOPs",
        criterion="with our operator, at every map size, latency grows as a power of the FLOPs below one",
        limits="Single layers of the paper's Table 1 as the table has them, on CPU with batch 1; the paper runs 24 on "
        "a GPU with batch 64. FLOPs are nominal, taps on padding included.",
        experiment_path="claims.experiments.latency:EXPERIMENT",
    ),
    Claim(
        name="shortcut",
        statement="Identity shortcuts are vital for large kernels.",
        source="Guideline 2 and Table 2",
        paper="MobileNetV2, 3×3 to 13×13: with shortcuts 71.76% to 72.53%, without 68.67% to 53.98%",
        criterion="the interval of the gain by 13×13 with shortcuts minus that without lies above 0",
        limits=_MINIATURE + "It shows the direction on an easy task, not the size of the effect.",
        experiment_path="claims.experiments.miniatures:SHORTCUT",
        needs="data",
    ),
    Claim(
        name="reparameterization",
        statement="A parallel small kernel, merged after training, helps kernels of 9×9 and 13×13.",
        source="Guideline 3 and Table 3",
        paper="MobileNetV2, 9×9 72.67% to 73.09%, 13×13 72.53% to 73.24% with a parallel 3×3",
        criterion="the interval of the mean gain by the 3×3 kernel lies above 0",
        limits=_MINIATURE + "The paper's effect is half a point, which one run on 3,925 images cannot resolve.",
        experiment_path="claims.experiments.miniatures:REPARAMETERIZATION",
        needs="data",
    ),
    Claim(
        name="dense-prediction",
        statement="Large kernels help dense prediction much more than classification.",
        source="Guideline 4; Tables 3 and 5",
        paper="3×3 to 9×9 in MobileNetV2: +1.33 points of ImageNet top-1, +3.99 of Cityscapes mIoU; 3×3 to 31×31 in "
        "RepLKNet: +0.96 of top-1, +3.12 of ADE20K mIoU",
        criterion="the interval of what kernels 31, 29, 15, 7 gain over 3 in mIoU, minus what they gain in top-1, "
        "lies above 0",
        limits="Networks of 2.8 M parameters or less, trained on the ten classes of Imagenette and fine-tuned on the "
        "367 training images of CamVid with one light decoder. The interval is over seeds of the fine-tuning and over "
        "the images of top-1; the backbones themselves were trained once.",
        experiment_path="claims.experiments.dense_prediction:EXPERIMENT",
        needs="camvid",
    ),
    Claim(
        name="last-stage",
        statement="Large kernels are useful even on small maps.",
        source="Guideline 5 and Table 4",
        paper="MobileNetV2, kernels of the last stage 3×3 71.76%, 7×7 72.00%, 13×13 71.97%",
        criterion="the interval of the mean gain by the larger kernels lies above 0",
        limits=_MINIATURE + "The paper's gain shows in segmentation (72.31 to 74.62 mIoU), which is not measured here.",
        experiment_path="claims.experiments.miniatures:LAST_STAGE",
        needs="data",
    ),
    Claim(
        name="small-maps",
        statement="On small maps large kernels relax shift equivariance: neighbours share only a part of the taps.",
        source="Guideline 5, remark",
        paper="no figure; kernels up to 13×13 on maps of 7×7",
        criterion="on 7×7 maps, each larger kernel has fewer shared taps and a larger error after a shift",
        limits="Geometry of one layer with random weights. It does not show that accuracy gains from it: that is the "
        "claim last-stage.",
        experiment_path="claims.experiments.small_maps:EXPERIMENT",
    ),
    Claim(
        name="growth",
        statement="The effective receptive field grows as K·sqrt(L): a large kernel sees farther than a stack of small "
        "ones of the same theoretical field.",
        source="Section 5, after Luo et al. (arXiv:1701.04128)",
        paper="exponents 1 of the kernel and 0.5 of the depth",
        criterion="fitted exponents within 0.1 of these, and the one large kernel wider, for every kind of stack",
        limits="Plain stacks of 16 channels without shortcuts or normalisation, on noise, not trained. It "
        "shows how width follows from geometry at the start, not what training makes of it.",
        experiment_path="claims.experiments.growth:EXPERIMENT",
    ),
    Claim(
        name="depth",
        statement="Deeper ResNets hardly have larger effective receptive fields.",
        source="Section 5 and Table 8",
        paper="area ratio at 50% of log10(score + 1): ResNet-101 3.2%, ResNet-152 3.9%, RepLKNet-31 43.2%",
        criterion="width grows as a power of the number of layers with kernels above 1×1, whose interval lies "
        "below the 0.5 of plain stacks",
        limits="Untrained networks say nothing of trained ones: each row says which it is. The paper has 50 images of "
        "ImageNet; here the images are few, and the interval is that of the fit over networks.",
        experiment_path="claims.experiments.depth:EXPERIMENT",
    ),
    Claim(
        name="training",
        statement="A trained large-kernel network looks farther than a ResNet; with random weights it is the reverse.",
        source="Section 5 and Table 8, trained networks only; the reverse is ours",
        paper="area ratio at 50% of log10(score + 1), trained: RepLKNet-31 43.2%, ResNet-101 3.2%",
        criterion="the interval of the paired difference lies above 0 trained, and below 0 for every draw of weights, "
        "by the published ratio and by the scale-free area alike",
        limits="Networks of 2.2 to 2.8 M parameters trained on the ten classes of Imagenette up to 128 pixels, and "
        "measured at 4.6 times that side, as the paper's 1024 to 224; one training each.",
        experiment_path="claims.experiments.training:EXPERIMENT",
    ),
    Claim(
        name="shape-bias",
        statement="Large kernels make a network rely more on shape.",
        source="Section 5 and Figure 5",
        paper="Figure 5, without numbers: the shape bias of RepLKNet-31B is above that of Swin-B and of ResNet-152",
        criterion="in miniature, the interval of the reliance on shape with the largest kernels, minus that with the "
        "smallest, lies above 0",
        limits="Recorded answers are of networks of others, which differ in more than their kernels. The miniature is "
        "of networks of 2.8 M parameters or less that know ten classes: its reliance on shape is the accuracy they "
        "lose when patches of a photograph are shuffled or turned, which is not the shape bias of the paper. With one "
        "training each, the interval is over images alone. 'Global shape' is the same with large patches only.",
        experiment_path="claims.experiments.shape_bias:EXPERIMENT",
        needs="data",
        trains=False,
    ),
    Claim(
        name="dilation",
        statement="A dilated 3×3 kernel is no substitute for a dense one of the same extent.",
        source="Appendix, Table 11",
        paper="MobileNetV2, dense 9×9 72.67% and 13×13 72.53%; dilated 3×3 of these extents far below",
        criterion="the interval of the mean lead of the dense kernels lies above 0",
        limits=_MINIATURE + "Accuracy decides; the receptive fields of both are listed as well.",
        experiment_path="claims.experiments.miniatures:DILATION",
        needs="data",
    ),
)


def names() -> list[str]:
    """The names of all claims, in the paper's order."""
    return [claim.name for claim in CLAIMS]

"""Networks that are asked for their trained weights: with 'auto' those that have none are left out of a run.

What a network with random weights answers says nothing of its architecture, so that 'auto' does not mean random weights
here, as it does for receptive fields.
"""

from replknet import listing, zoo
from runkit import UserError
from runkit.options import RunOptions
from runkit.sweep import LeftOut, Swept

__all__ = ["check_any_left", "foresee_trained", "resolve_trained"]


def resolve_trained(name: str, weights: str, *, seed: int) -> zoo.ResolvedWeights:
    """As `replknet.zoo.resolve_weights`.

    Raises: LeftOut with 'auto' if the trained weights cannot be had.
    """
    if weights != "auto":
        return zoo.resolve_weights(name, weights, seed=seed)
    try:
        return zoo.resolve_weights(name, "pretrained", seed=seed)
    except zoo.WeightsUnavailable as error:
        raise LeftOut(str(error)) from None


def foresee_trained(name: str, weights: str, *, seed: int) -> listing.ForeseenWeights:
    """As `replknet.listing.foresee_weights`.

    Raises: LeftOut with 'auto' if there are no trained weights.
    """
    if weights == "auto" and listing.find_source(name, weights) is None:
        raise LeftOut(listing.SOURCES[None])
    return listing.foresee_weights(name, "pretrained" if weights == "auto" else weights, seed=seed)


def check_any_left(swept: Swept, run: RunOptions) -> None:
    """Refuse a run without networks.

    Raises: UserError if all of them were left out.
    """
    if len(swept.skipped) == len(run.asked):
        raise UserError("no network is left: none of the trained weights can be had; --weights random would run anyway")

"""Any network of timm, RepLKNet among them, with weights that are known: `load_model` serves both tools.

What a network's weights are is part of every result, so a network never comes without its `WeightsRecord`.
"""

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

import replknet.replknet
import replknet.resnet_nano  # noqa: F401  registers the ResNet beside the nano RepLKNets
from replknet.weights import (
    CheckpointError,
    WeightsFile,
    WeightsUnavailable,
    find_weights,
    installed_weights,
    named_by_user,
    read_checkpoint,
)
from runkit import UserError

__all__ = [
    "CheckpointError",
    "LoadedModel",
    "Preprocessing",
    "WeightsRecord",
    "WeightsUnavailable",
    "count_feature_maps",
    "load_model",
    "resolve_weights",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsRecord:
    """What a network's weights are.

    Attributes:
        model: `arch.tag` of published weights, else the architecture alone.
        source: 'random', 'file', 'package', 'cache' or 'download'.
        file: Name of the checkpoint file, None for random weights.
        sha256: SHA-256 of that file, 64 hexadecimal digits.
        sha256_verified: How much of it was compared with a published one ('full', 'prefix', 'none'); None for random
            weights.
        seed: Seed of random weights, else None.
        init: How random weights were drawn, else None.
        random: Whether the network is untrained.
    """

    model: str
    source: str
    file: str | None = None
    sha256: str | None = None
    sha256_verified: str | None = None
    seed: int | None = None
    init: str | None = None

    @property
    def random(self) -> bool:
        return self.source == "random"

    @property
    def label(self) -> str:
        """Short text for titles and tables; random weights are written in capitals."""
        if self.random:
            return f"RANDOM WEIGHTS (seed {self.seed})"
        return f"weights {self.file}" if self.source == "file" else f"weights {self.model}"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the tensors, wherever they came from: two equal identities are the same weights."""
        return {"model": self.model, "random": self.random, "sha256": self.sha256, "seed": self.seed}

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `random` and `label` are spelt out, so that no reader has to infer them."""
        return {**asdict(self), "random": self.random, "label": self.label}


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images.

    Attributes:
        mean: Red, green, blue mean, of values in 0..1, that is subtracted.
        std: Standard deviations divided by afterwards.
        input_size: (height, width) in pixels that the weights were evaluated at.
        interpolation: timm's word for the resizing filter.
        crop_pct: Side of the centre crop over the side resized to, in timm's evaluation.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: tuple[int, int]
    interpolation: str
    crop_pct: float


@dataclass(frozen=True)
class LoadedModel:
    """A network in eval mode, how it wants its images, what its weights are, and how it was built."""

    model: nn.Module
    preprocessing: Preprocessing
    record: WeightsRecord
    model_args: dict[str, Any]


@dataclass(frozen=True)
class ResolvedWeights:
    """Which weights a network will get, before it is built; `warning` says why they are not the trained ones."""

    name: str
    record: WeightsRecord
    file: WeightsFile | None
    warning: str | None = None


def resolve_weights(name: str, weights: str = "auto", *, seed: int = 0) -> ResolvedWeights:
    """Decide which weights a network gets; fetches and verifies the file, builds no network.

    Args:
        name: timm name, with or without a tag, such as 'replknet31b' or 'resnet101.tv_in1k'.
        weights: 'auto' (trained weights, else random ones with a warning), 'pretrained', 'random', or the path of a
            checkpoint.
        seed: Seed of random weights.

    Raises: UserError for an unknown network or tag; WeightsUnavailable for 'pretrained' weights that cannot be had;
        CheckpointError for a missing or damaged file.
    """
    pretrained_cfg = _pretrained_cfg(name)
    architecture = name.partition(".")[0]
    random = WeightsRecord(architecture, "random", seed=seed, init="timm's")
    if weights == "random":
        return ResolvedWeights(name, random, None)
    if weights not in ("auto", "pretrained"):
        file = named_by_user(weights)
        return ResolvedWeights(name, _record(architecture, file), file)
    tag = f"{architecture}.{pretrained_cfg['tag']}" if pretrained_cfg.get("tag") else architecture
    try:
        file = find_weights(tag, pretrained_cfg)
    except WeightsUnavailable as error:
        if weights == "pretrained":
            raise
        warning = f"{name}: RANDOM WEIGHTS (seed {seed}), since {error}"
        if trained := installed_weights():
            warning += f"; trained weights that are installed: {', '.join(trained)}"
        return ResolvedWeights(name, random, None, warning=warning)
    return ResolvedWeights(name, _record(tag, file), file)


def _record(model: str, file: WeightsFile) -> WeightsRecord:
    return WeightsRecord(model, file.source, file.path.name, file.sha256, file.sha256_verified)


def load_model(
    name: str | ResolvedWeights,
    weights: str = "auto",
    *,
    input_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Build a network with known weights.

    Args:
        name: As for `resolve_weights`, or its answer (`weights` and `seed` are then taken from there).
        weights: As for `resolve_weights`.
        input_size: Side, or (height, width), in pixels, that the images will have. Networks of fixed input size (Swin,
            ViT) are built for it, their position embeddings resized; the others take any. None for the network's own.
        seed: Seed of random weights; the global random state is left as it was. They are drawn as timm draws them,
            but residual branches that it switches off at the start are on.

    Returns: The network in eval mode on the CPU, float32, in training form where it has one (see
        `replknet.optimize`). Weights are loaded strictly.

    Raises: As `resolve_weights`; also CheckpointError if a checkpoint does not fit the network, and UserError if the
        network cannot be built for `input_size`.
    """
    resolved = name if isinstance(name, ResolvedWeights) else resolve_weights(name, weights, seed=seed)
    if resolved.warning:
        _logger.warning(resolved.warning)
    record = resolved.record
    pretrained_cfg = _pretrained_cfg(resolved.name)
    model_args: dict[str, Any] = {}
    if input_size is not None and pretrained_cfg.get("fixed_input_size"):
        model_args["img_size"] = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if resolved.file is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(record.seed or 0)
            model = _build(resolved.name, record, model_args)
        if woken := _wake_zero_branches(model):
            _logger.info("%s: %d residual branches that timm starts at zero were switched on", resolved.name, woken)
            record = replace(record, init=f"timm's, with {woken} zero-initialised normalisation weights set to 1")
    else:
        state_dict = read_checkpoint(resolved.file.path)
        if record.source == "package":
            model = _build(resolved.name, record, model_args)
            model.load_state_dict(_rename_in_order(state_dict, model.state_dict(), resolved.file.path))
        else:
            model = _build(resolved.name, record, model_args, state_dict)
    return LoadedModel(model.eval(), _preprocessing(model), record, model_args)


def count_feature_maps(name: str) -> int:
    """How many feature maps a network of timm names: positions 0 to this less one are its stages or blocks.

    Raises: UserError if it names none.
    """
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(name)
    feature_info: Any = getattr(model, "feature_info", None)
    if not feature_info:
        raise UserError(f"{name} names no feature maps; ask for layers by their module's name")
    return len(feature_info)


def _build(
    name: str, record: WeightsRecord, model_args: dict[str, Any], state_dict: dict[str, torch.Tensor] | None = None
) -> nn.Module:
    overlay = None if state_dict is None else dict(state_dict=state_dict)
    try:
        # handing over a state dict makes timm apply the architecture's own key conversion, and load strictly
        model = timm.create_model(name, pretrained=state_dict is not None, pretrained_cfg_overlay=overlay, **model_args)
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        if state_dict is None:
            raise UserError(f"{name} cannot be built with {model_args or 'its defaults'}: {error}") from error
        raise CheckpointError(f"{record.file} does not fit {name}: {_mismatch(error)}") from error
    if state_dict is not None:
        pretrained_cfg: Any = model.pretrained_cfg
        pretrained_cfg["state_dict"] = None  # or the tensors would be kept a second time
    return model


def _wake_zero_branches(model: nn.Module) -> int:
    """Set batch normalisation weights that are zero everywhere to 1; returns how many there were.

    timm starts the last normalisation of a residual branch at zero (as torchvision does not): a good start for
    training, but the untrained network is then little more than its shortcuts, with a receptive field of a few pixels.
    """
    zero = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.affine and not m.weight.any()]
    for norm in zero:
        nn.init.ones_(norm.weight)
    return len(zero)


def _mismatch(error: BaseException) -> str:
    """The first key of each kind that PyTorch complains of: missing, unexpected, of another shape."""
    text = str(error)
    parts = []
    for kind in ("Missing", "Unexpected"):
        if found := re.search(rf"{kind} key\(s\) in state_dict: (.*?)\. ?(\n|$)", text, re.DOTALL):
            keys = re.findall(r'"([^"]+)"', found.group(1))
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            parts.append(f"{kind.lower()} {keys[0]}{more}")
    shapes = re.findall(
        r"size mismatch for ([^:]+): copying a param with shape torch\.Size\(([^)]*)\) from checkpoint, "
        r"the shape in current model is torch\.Size\(([^)]*)\)",
        text,
    )
    if shapes:
        key, has, wants = shapes[0]
        more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        parts.append(f"{key} has shape {has}, the network {wants}{more}")
    return "; ".join(parts) or (text.splitlines() or [type(error).__name__])[0]


def _rename_in_order(
    state_dict: dict[str, torch.Tensor], ours: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """Give a packaged checkpoint timm's names, if it has others: the same tensors in the same order, shapes checked."""
    if len(ours) != len(state_dict):
        raise CheckpointError(f"{path} has {len(state_dict)} tensors, the network {len(ours)}")
    keys = ours.keys() if ours.keys() == state_dict.keys() else state_dict.keys()
    renamed = {}
    for (our_key, our_value), key in zip(ours.items(), keys, strict=True):
        value = state_dict[key]
        if our_value.shape != value.shape:
            raise CheckpointError(f"{path}: {key} {tuple(value.shape)} is not {our_key} {tuple(our_value.shape)}")
        renamed[our_key] = value
    return renamed


def _pretrained_cfg(name: str) -> dict[str, Any]:
    """timm's description of a network's weights; a UserError with the nearest names for a name it does not know."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
        raise UserError(f"unknown network {name!r}; {hint}")
    known = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in known:
        raise UserError(
            f"{architecture} has no weights {tag!r}; its tags are {', '.join(filter(None, known)) or 'none'}"
        )
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {} if cfg is None else {**cfg.to_dict(), "tag": cfg.tag}


def _preprocessing(model: nn.Module) -> Preprocessing:
    cfg = timm.data.resolve_data_config({}, model=model)
    return Preprocessing(
        tuple(cfg["mean"]), tuple(cfg["std"]), tuple(cfg["input_size"][1:]), cfg["interpolation"], cfg["crop_pct"]
    )

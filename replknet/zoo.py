"""Networks of timm, including RepLKNet, with known weights: both tools load networks by `load_model`.

Every result states which weights were used, so a network is always loaded together with its `WeightsRecord`.
"""

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

import replknet.architectures.moganet  # importing these modules registers the networks
import replknet.architectures.overlock
import replknet.architectures.replknet
import replknet.architectures.resnet_nano
import replknet.architectures.shiftwise
import replknet.architectures.slak
import replknet.architectures.unireplknet
import replknet.architectures.van  # noqa: F401
from replknet.foreign import is_foreign, resolve_foreign
from replknet.weights.checkpoint import (
    CheckpointError,
    check_converted,
    list_keys,
    list_tensors,
    read_checkpoint,
    refuse_other_types,
    strip_prefix,
)
from replknet.weights.records import LoadedModel, Preprocessing, ResolvedWeights, WeightsRecord
from replknet.weights.sources import (
    WeightsFile,
    WeightsUnavailable,
    find_weights,
    installed_weights,
    named_by_user,
    random_instead,
)
from replknet.weights.switched_off import describe_branches, find_branches, switch_on
from runkit import UserError
from runkit.plugins import words_of

__all__ = [
    "CheckpointError",
    "LoadedModel",
    "Preprocessing",
    "ResolvedWeights",
    "WeightsRecord",
    "WeightsUnavailable",
    "count_feature_maps",
    "for_trial",
    "is_registered",
    "load_model",
    "resolve_weights",
]

_logger = logging.getLogger(__name__)


def resolve_weights(name: str, weights: str = "auto", *, seed: int = 0) -> ResolvedWeights:
    """Determine the weights of a network. Downloads and verifies the file, but builds no network.

    Args:
        name: timm name, with or without a tag, such as 'replknet31b' or 'resnet101.tv_in1k'; or a network from
            elsewhere (`replknet.foreign`), such as 'net.py:build' or 'torchvision/resnet50'.
        weights: 'auto' (trained weights, else random ones with a warning), 'pretrained', 'random', the path of a
            checkpoint, or `PATH#KEY`, where KEY names the part of the file that holds the weights.
        seed: Seed of random weights.

    Raises: UserError for an unknown network or tag; WeightsUnavailable for 'pretrained' weights that are not available;
        CheckpointError for a missing or damaged file.
    """
    if is_foreign(name):
        return resolve_foreign(name, weights, seed=seed)
    pretrained_cfg = _pretrained_cfg(name)
    architecture = name.partition(".")[0]
    random = WeightsRecord(architecture, "random", seed=seed, init="timm's")
    if weights == "random":
        return ResolvedWeights(name, random, None)
    if weights not in ("auto", "pretrained"):
        file = named_by_user(weights)
        checkpoint = read_checkpoint(file.path, file.key)
        return ResolvedWeights(name, WeightsRecord.of_file(architecture, file).with_part(checkpoint), file)
    tag = f"{architecture}.{pretrained_cfg['tag']}" if pretrained_cfg.get("tag") else architecture
    try:
        file = find_weights(tag, pretrained_cfg)
    except WeightsUnavailable as error:
        if weights == "pretrained":
            raise
        warning = random_instead(name, seed, error)
        if trained := installed_weights():
            warning += f"; trained weights that are installed: {', '.join(trained)}"
        return ResolvedWeights(name, random, None, warning=warning)
    return ResolvedWeights(name, WeightsRecord.of_file(tag, file), file)


def for_trial(weights: ResolvedWeights) -> ResolvedWeights:
    """Random weights for the same network, to find out what a run costs. Nothing is logged about them.

    A network that the user's own code builds has no others than it is built with.
    """
    if weights.build is not None:
        return weights
    return replace(resolve_weights(weights.name, "random"), trial=not weights.record.random)


def load_model(
    name: str | ResolvedWeights,
    weights: str = "auto",
    *,
    input_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Build a network with known weights.

    Args:
        name: As for `resolve_weights`, or its result (which then determines `weights` and `seed`).
        weights: As for `resolve_weights`.
        input_size: Side or (height, width) of the images in pixels. Networks with a fixed input size (Swin, ViT) are
            built for it, with resized position embeddings; other networks take any size. None for the network's own.
        seed: Seed of random weights; the global random state is not changed. They are drawn as in timm, except that
            residual branches that start at or near zero are enabled (`replknet.weights.switched_off`).

    Returns: The network in eval mode on the CPU, in float32, and with its branches unmerged (see
        `replknet.optimize`). Weights are loaded strictly.

    Raises: As `resolve_weights`; also CheckpointError if a checkpoint does not fit the network, and UserError if the
        network cannot be built for `input_size`.
    """
    resolved = name if isinstance(name, ResolvedWeights) else resolve_weights(name, weights, seed=seed)
    if resolved.warning:
        _logger.warning(resolved.warning)
    if resolved.build is not None:
        return resolved.build((input_size, input_size) if isinstance(input_size, int) else input_size)
    record = resolved.record
    pretrained_cfg = _pretrained_cfg(resolved.name)
    model_args: dict[str, Any] = {}
    head: tuple[str, ...] = ()
    if input_size is not None and pretrained_cfg.get("fixed_input_size"):
        model_args["img_size"] = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if resolved.file is None:
        model, record = _build_random(resolved, model_args)
    elif record.source == "package":
        model = _build(resolved.name, model_args)
        tensors = read_checkpoint(resolved.file.path).tensors
        model.load_state_dict(_rename_in_order(tensors, model.state_dict(), resolved.file.path))
    else:
        model, record, head = _build_from_file(resolved.name, record, model_args, resolved.file)
    return LoadedModel(model.eval(), _preprocessing(model), record, model_args, head)


def is_registered(name: str) -> bool:
    """Whether timm has a network of this name, with or without a tag; this includes the networks of this project."""
    return bool(timm.is_model(name))


def count_feature_maps(name: str) -> int:
    """Count the feature maps that a timm network lists: its stages or blocks, at positions 0 to this number minus one.

    Raises: UserError if it lists none, or cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        model = _build(name, {})
    feature_info: Any = getattr(model, "feature_info", None)
    if not feature_info:
        raise UserError(f"{name} names no feature maps; ask for layers by their module's name")
    return len(feature_info)


def _build(name: str, model_args: Mapping[str, Any], **options: Any) -> nn.Module:
    """Build a timm network; `options` are passed to `timm.create_model` in addition to `model_args`.

    Raises: UserError if it cannot be built. If the options include weights, PyTorch's and timm's own errors are passed
        on.
    """
    try:
        return timm.create_model(name, **model_args, **options)
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        if "pretrained_cfg_overlay" in options:
            raise
        with_what = dict(model_args) or "its defaults"
        raise UserError(f"{name} cannot be built with {with_what}: {words_of(error)}") from error


def _build_random(resolved: ResolvedWeights, model_args: Mapping[str, Any]) -> tuple[nn.Module, WeightsRecord]:
    name, record = resolved.name, resolved.record
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(record.seed or 0)
        model = _build(name, model_args)
    branches = find_branches(model)
    if woken := switch_on(branches):
        _logger.log(
            logging.DEBUG if resolved.trial else logging.INFO,
            "%s: an untrained network of this kind starts with residual branches that add almost nothing to the "
            "shortcuts; here they take full part: %s",
            name,
            describe_branches(branches),
        )
        record = replace(record, init=f"timm's, with {woken}")
    return model, record


def _build_from_file(
    name: str, record: WeightsRecord, model_args: Mapping[str, Any], file: WeightsFile
) -> tuple[nn.Module, WeightsRecord, tuple[str, ...]]:
    """Build a network with the weights of a file, loaded strictly; a head with another number of classes is kept.

    Returns: The network, the record of its weights, and `head` of a `LoadedModel`.
    Raises: CheckpointError if the weights do not fit.
    """
    ours = list_tensors(lambda: _build(name, model_args))
    checkpoint = strip_prefix(read_checkpoint(file.path, file.key), ours, file.path)
    said = f"{record.file} does not fit {name}"
    refuse_other_types(checkpoint.tensors, ours, said)
    options: dict[str, Any] = {}

    def load(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
        return _build(name, model_args, **options, **_loading(tensors, **options))

    try:
        try:
            model = load(checkpoint.tensors)
        except RuntimeError as error:
            classes = _other_head(name, error)
            if classes is None:
                raise
            options["num_classes"] = classes
            model = load(checkpoint.tensors)
            record = replace(record, head=f"{classes} classes" if classes else "none")
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        raise CheckpointError(f"{said}: {_Misfit.of(error)}; the file holds {list_keys(checkpoint.tensors)}") from error
    check_converted(checkpoint.tensors, ours, load, said)
    pretrained_cfg: Any = model.pretrained_cfg
    pretrained_cfg["state_dict"] = None  # else the tensors would be kept in memory twice
    record = record.with_part(checkpoint)
    head = sorted(_head_parameters(name) & ours.keys()) if record.head else []
    return model, record, tuple(head)


def _loading(tensors: Mapping[str, torch.Tensor], **overlay: Any) -> dict[str, Any]:
    """Options that make timm load a checkpoint strictly, with the key conversion of the architecture."""
    return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(tensors), **overlay}}


def _other_head(name: str, error: RuntimeError) -> int | None:
    """Classes of a checkpoint that fits except for its head, 0 if it has no head; None if it differs elsewhere."""
    names = _head_parameters(name)
    misfit = _Misfit.of(error)
    concerned = {*misfit.missing, *misfit.unexpected, *misfit.shapes}
    if not concerned or not concerned <= names:
        return None
    return next((int(has[0]) for has, _ in misfit.shapes.values()), 0)


def _head_parameters(name: str) -> set[str]:
    """Names of the parameters of a network's classification head, as described by timm."""
    heads = _pretrained_cfg(name).get("classifier") or ()
    return {f"{head}.{kind}" for head in ([heads] if isinstance(heads, str) else heads) for kind in ("weight", "bias")}


@dataclass(frozen=True)
class _Misfit:
    """The mismatches between weights and a network that an error of PyTorch reports.

    Attributes:
        missing: Names that the checkpoint lacks.
        unexpected: Names that the network lacks.
        shapes: Name -> shape in the checkpoint, shape in the network.
        text: The whole message.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: Mapping[str, tuple[list[int], list[int]]]
    text: str

    @classmethod
    def of(cls, error: BaseException) -> "_Misfit":
        text = str(error)

        def names(kind: str) -> tuple[str, ...]:
            found = re.search(rf"{kind} key\(s\) in state_dict: (.*?)\. ?(\n|$)", text, re.DOTALL)
            return tuple(re.findall(r'"([^"]+)"', found.group(1))) if found else ()

        def numbers(shape: str) -> list[int]:
            return [int(number) for number in re.findall(r"\d+", shape)]

        shapes = re.findall(
            r"size mismatch for ([^:]+): copying a param with shape torch\.Size\(([^)]*)\) from checkpoint, "
            r"the shape in current model is torch\.Size\(([^)]*)\)",
            text,
        )
        sizes = {key: (numbers(has), numbers(wants)) for key, has, wants in shapes}
        said = words_of(error) if isinstance(error, KeyError) else text or type(error).__name__
        return cls(names("Missing"), names("Unexpected"), sizes, said)

    def __str__(self) -> str:
        """The first mismatch of each kind."""

        def more(count: int) -> str:
            return f" and {count - 1} more" if count > 1 else ""

        parts = [f"missing {self.missing[0]}{more(len(self.missing))}"] if self.missing else []
        parts += [f"unexpected {self.unexpected[0]}{more(len(self.unexpected))}"] if self.unexpected else []
        for key, (has, wants) in [*self.shapes.items()][:1]:
            parts.append(f"{key} has shape {has}, the network {wants}{more(len(self.shapes))}")
        return "; ".join(parts) or self.text.splitlines()[0]


def _rename_in_order(
    state_dict: dict[str, torch.Tensor], ours: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    """Give the tensors of a packaged checkpoint timm's names: in order, unless the names agree; shapes are checked."""
    if len(ours) != len(state_dict):
        raise CheckpointError(f"{path} has {len(state_dict)} tensors, the network {len(ours)}")
    keys = ours.keys() if ours.keys() == state_dict.keys() else state_dict.keys()
    renamed = {}
    for (our_key, our_value), key in zip(ours.items(), keys, strict=True):
        value = state_dict[key]
        if our_value.shape != value.shape:
            raise CheckpointError(f"{path}: {key} {tuple(value.shape)} is not {our_key} {tuple(our_value.shape)}")
        renamed[our_key] = value
    refuse_other_types(renamed, ours, f"{path} does not fit the network")
    return renamed


def _pretrained_cfg(name: str) -> dict[str, Any]:
    """timm's description of a network's weights.

    Raises: UserError for an unknown network, with the most similar names, or an unknown tag.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        if name.endswith(".py"):
            raise UserError(f"{name} is a file; name the function in it that builds the network: {name}:FUNCTION")
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

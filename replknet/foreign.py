"""Networks from other sources: the user's own code, torchvision, the Hugging Face hub and torch.hub.

| name | network | default weights |
|---|---|---|
| `FILE.py:FACTORY`, `package.module:FACTORY` | returned by the function | as the function built them |
| `torchvision/NAME`, `torchvision/NAME.WEIGHTS` | torchvision's | the enum's default, or the named member |
| `hf-hub:OWNER/NAME` | timm's, described by the hub's `config.json` | the hub's |
| `torch.hub:OWNER/REPO[:REF]:ENTRY`, `torch.hub:FOLDER:ENTRY` | returned by the entry point | as it built them |

Only names of the first and the last row run the code that they name.
"""

import copy
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from replknet.weights.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_converted,
    describe_types,
    list_keys,
    list_tensors,
    read_checkpoint,
    refuse_other_types,
    strip_prefix,
    wrong_types,
)
from replknet.weights.records import LoadedModel, Preprocessing, ResolvedWeights, WeightsRecord
from replknet.weights.sources import WeightsFile, WeightsUnavailable, find_weights, named_by_user, random_instead
from runkit import UserError
from runkit.plugins import OWN_CODE_ERRORS, is_plugin, load_plugin, sha256_of_code, words_of

__all__ = ["is_code", "is_foreign", "preprocessing_of", "resolve_foreign", "resolve_module", "sha256_of_weights"]

_TORCHVISION, _HF_HUB, _TORCH_HUB = "torchvision/", "hf-hub:", "torch.hub:"


def is_foreign(name: str) -> bool:
    """Whether a network's name has one of the forms of this module."""
    return name.startswith((_TORCHVISION, _HF_HUB, _TORCH_HUB)) or is_plugin(name)


def is_code(name: str) -> bool:
    """Whether a network's name refers to code, which then gives the network its weights."""
    return name.startswith(_TORCH_HUB) or (is_plugin(name) and not name.startswith((_TORCHVISION, _HF_HUB)))


def resolve_foreign(name: str, weights: str, *, seed: int) -> ResolvedWeights:
    """Determine the weights of a network of this module; arguments and errors as for `replknet.resolve_weights`."""
    if name.startswith(_TORCHVISION):
        return _resolve_torchvision(name, weights, seed)
    if name.startswith(_HF_HUB):
        return _resolve_hf_hub(name, weights, seed)
    factory = _hub_entry(name) if name.startswith(_TORCH_HUB) else load_plugin(name)
    return _resolve_code(name, factory, weights, seed)


def resolve_module(model: nn.Module, name: str | None = None) -> ResolvedWeights:
    """Resolve a network that already exists, with the weights that it has.

    Args:
        model: The network. It is left unchanged: each load returns a copy in eval mode.
        name: Name of the network in results; None for the name of its class.

    Raises: TypeError if it is not a network; on loading, UserError if it cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"a network is a torch.nn.Module or a name, not {model!r:.60}")
    said = name or type(model).__name__
    sha256 = sha256_of_weights(model)
    record = WeightsRecord(said, "given", sha256=sha256, sha256_verified="none")

    def build(_: tuple[int, int] | None) -> LoadedModel:
        return LoadedModel(_copied(said, model).cpu().eval(), preprocessing_of(model), record, {})

    return ResolvedWeights(said, record, None, build=build)


def _copied(said: str, model: nn.Module) -> nn.Module:
    """Copy a network.

    Raises: UserError if it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:  # attributes may define how they are copied, or cannot be copied
        raise UserError(
            f"{said} cannot be copied ({words_of(error)}); name a function that builds it: FILE.py:FACTORY"
        ) from error


def sha256_of_weights(model: nn.Module) -> str:
    """SHA-256 of a network's state dict: names, dtypes, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            value = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# --- the user's own code ----------------------------------------------------------------------------------------------


def _resolve_code(name: str, factory: Any, weights: str, seed: int) -> ResolvedWeights:
    said, code = _short(name), _sha256_of_code(factory)
    if weights == "random":
        raise UserError(
            f"{said}: the function decides its network's weights, so --weights random does not apply; leave --weights "
            "out, or name a checkpoint"
        )
    call = functools.partial(_call, said, factory, seed)
    if weights not in ("auto", "pretrained"):
        file = named_by_user(weights)
        checkpoint = read_checkpoint(file.path, file.key)
        record = WeightsRecord(
            said,
            file.source,
            file.path.name,
            file.sha256,
            file.sha256_verified,
            part=checkpoint.part or None,
            averaged=checkpoint.averaged,
            code_sha256=code,
        )
        return ResolvedWeights(said, record, file, build=lambda _: _with_file(call(), record, file))
    sha256 = sha256_of_weights(call())
    record = WeightsRecord(said, "built", sha256=sha256, sha256_verified="none", seed=seed, code_sha256=code)

    def build(_: tuple[int, int] | None) -> LoadedModel:
        model = call()
        if sha256_of_weights(model) != sha256:
            raise UserError(
                f"{said} gives other weights at every call, so a result could not be made again; seed it, or load the "
                "weights from a file"
            )
        return LoadedModel(model.eval(), preprocessing_of(model), record, {})

    return ResolvedWeights(said, record, None, build=build)


def _call(said: str, factory: Any, seed: int) -> nn.Module:
    """Build the network with the seed of the run; the global random state is restored afterwards."""
    if isinstance(factory, nn.Module):
        return _copied(said, factory)
    if not callable(factory):
        raise UserError(f"{said} is a {type(factory).__name__}; name a function that returns a torch.nn.Module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = factory()
        except UserError:
            raise
        except OWN_CODE_ERRORS as error:
            raise UserError(f"{said}() failed: {words_of(error)}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{said}() returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _short(name: str) -> str:
    """Shorten `folder/net.py:build` to `net.py:build`, so that results do not depend on the location of files."""
    place, _, function = name.rpartition(":")
    if name.startswith(_TORCH_HUB):
        folder = Path(place.removeprefix(_TORCH_HUB))
        return f"{_TORCH_HUB}{folder.resolve().name}:{function}" if folder.is_dir() else name
    return f"{Path(place).name}:{function}" if place.endswith(".py") else name


def _sha256_of_code(factory: Any) -> str | None:
    """SHA-256 of the code of a function or a network; None if its file is not known."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    return sha256_of_code(type(factory) if isinstance(factory, nn.Module) else factory)


def _record_of_file(model: str, file: WeightsFile) -> WeightsRecord:
    """Record a file's weights before they are loaded; the part is named where the file had to be asked for one.

    A part is part of the identity. Where a file holds a single one that nobody named, such as 'state_dict', the file
    alone determines the weights.
    """
    record = WeightsRecord.of_file(model, file)
    if file.source != "file":
        return record
    checkpoint = read_checkpoint(file.path, file.key)
    if file.key is None and not checkpoint.averaged:
        return record
    return record.with_part(checkpoint)


def _with_file(model: nn.Module, record: WeightsRecord, file: WeightsFile) -> LoadedModel:
    """Load the weights of a file strictly, except that the head may have another number of classes or be missing."""
    ours = model.state_dict()
    checkpoint = strip_prefix(read_checkpoint(file.path, file.key), ours, file.path)
    record = record.with_part(checkpoint)
    head, classes = _fit_head(model, checkpoint)
    if classes is not None:
        record = replace(record, head=f"{classes} classes" if classes else "none")
        if not classes:
            ours = model.state_dict()
            checkpoint = replace(checkpoint, tensors={**checkpoint.tensors, **{name: ours[name] for name in head}})
    _load_strictly(model, checkpoint, f"{record.file} does not fit {record.model}")
    return LoadedModel(model.eval(), preprocessing_of(model), record, {}, head)


def _fit_head(model: nn.Module, checkpoint: Checkpoint) -> tuple[tuple[str, ...], int | None]:
    """Resize a network's head to the number of outputs in a checkpoint that otherwise fits the network.

    The head is the last of the network's modules with parameters, if it is a linear layer or a 1 × 1 convolution.

    Returns: Names of the head's parameters and its number of outputs in the file, 0 if the file has no head. If the
        head fits already, or something else does not fit: no names, and None.
    """
    own = [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters(False))]
    place, module = own[-1] if own else ("", model)
    is_map = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    if not place or not (is_map or isinstance(module, nn.Linear)):
        return (), None
    names = tuple(f"{place}.{name}" for name, _ in module.named_parameters(recurse=False))
    ours = {key: value.shape for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    theirs = {key: value.shape for key, value in checkpoint.tensors.items()}
    misfits = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    if not misfits or not misfits <= set(names):
        return (), None
    if not set(names) & theirs.keys():
        return names, 0
    weight = theirs.get(f"{place}.weight")
    if misfits - theirs.keys() or weight is None or weight[1:] != ours[f"{place}.weight"][1:]:
        return (), None
    with torch.random.fork_rng(devices=[]):
        if isinstance(module, nn.Linear):
            other: nn.Module = nn.Linear(module.in_features, weight[0], bias=module.bias is not None)
        elif isinstance(module, nn.Conv2d):
            other = nn.Conv2d(module.in_channels, weight[0], 1, bias=module.bias is not None)
    model.set_submodule(place, other)
    return names, int(weight[0])


def _load_strictly(model: nn.Module, checkpoint: Checkpoint, said: str) -> None:
    """Load weights into a network whose tensors must be the same ones.

    Only counters of batches may be missing, as in PyTorch, and a second name of a tensor that is there.

    Raises: CheckpointError if something is missing, unexpected, or of another shape or type.
    """
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    ours = {key: tuple(value.shape) for key, value in own.items()}
    theirs = {key: tuple(value.shape) for key, value in checkpoint.tensors.items()}
    given = {_place_of(own[key]) for key in theirs if key in own}
    missing = [
        key
        for key, value in own.items()
        if key not in theirs and not key.endswith("num_batches_tracked") and _place_of(value) not in given
    ]
    problems = [f"missing {key}" for key in missing][:1]
    problems += [f"unexpected {key}" for key in theirs if key not in ours][:1]
    problems += [
        f"{key} has shape {list(theirs[key])}, the network {list(shape)}"
        for key, shape in ours.items()
        if key in theirs and theirs[key] != shape
    ][:1]
    if wrong := wrong_types(checkpoint.tensors, own):
        problems.append(describe_types(checkpoint.tensors, wrong))
    if problems:
        raise CheckpointError(f"{said}: {'; '.join(problems)}; the file holds {list_keys(theirs)}")
    model.load_state_dict({**{key: value for key, value in own.items() if key not in theirs}, **checkpoint.tensors})


def _place_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What two names of one tensor have in common; empty tensors share nothing."""
    return (tensor.data_ptr() or id(tensor), tensor.shape, tensor.stride())


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """Read a network's preprocessing from timm's `pretrained_cfg`, or from attributes `mean`, `std` and `input_size`.

    The defaults are 224 pixels and bicubic resizing. For three channels, mean and deviation default to those of
    ImageNet, and for one channel to the averages of these; for other numbers of channels the images are not normalised.

    Args:
        model: The network, in eval mode.

    Raises: UserError if the network's `mean` or `std` has neither one number nor one for each channel.
    """
    cfg: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    said: Mapping[str, Any] = cfg if isinstance(cfg, Mapping) else getattr(cfg, "to_dict", dict)()

    def ask(key: str, default: Any) -> Any:
        value = said.get(key)
        if value is None:
            value = getattr(model, key, None)
        return default if value is None or callable(value) else value

    size = ask("input_size", (224, 224))
    size = (size, size) if isinstance(size, int) else tuple(int(side) for side in tuple(size)[-2:])
    channels = _channels_of(model, size)
    mean, std = (_of_channels(model, kind, ask(kind, None), channels) for kind in ("mean", "std"))
    interpolation, crop_pct = ask("interpolation", "bicubic"), float(ask("crop_pct", 1.0))
    return Preprocessing(mean, std, cast(Any, size), interpolation, crop_pct)


_DEFAULTS: Mapping[str, tuple[float, ...]] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
_NEUTRAL = {"mean": 0.0, "std": 1.0}
_CHANNELS = ("in_chans", "in_channels", "input_channels", "n_channels")
"""Attributes in which networks store the number of channels of their images."""


def _of_channels(model: nn.Module, kind: str, values: Any, channels: int) -> tuple[float, ...]:
    """Mean or deviation of each channel; values for colours are adapted if the network takes other channels."""
    numbers = _numbers(values) if values is not None else _DEFAULTS[kind]
    if len(numbers) == channels:
        return numbers
    if len(numbers) == 1:
        return numbers * channels
    if values is not None and getattr(model, kind, None) is not None and not callable(getattr(model, kind)):
        raise UserError(f"{type(model).__name__}.{kind} has {len(numbers)} numbers for images of {channels} channels")
    return (sum(numbers) / len(numbers),) if channels == 1 else (_NEUTRAL[kind],) * channels


def _channels_of(model: nn.Module, size: tuple[int, ...]) -> int:
    """Number of image channels: from the network's attributes, else 3, or that of its first convolution if 3 fails."""
    for name in _CHANNELS:
        value = getattr(model, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    said = getattr(model, "input_size", None)
    if isinstance(said, (tuple, list)) and len(said) == 3:
        return int(said[0])
    convolutions = (m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd))
    first = next((m.in_channels for m in convolutions), 3)
    return first if first == 3 or not _takes_colours(model, size) else 3


def _takes_colours(model: nn.Module, size: tuple[int, ...]) -> bool:
    """Whether a network runs on an image of three channels; the first convolution it lists need not be its input."""
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, *size))
    except OWN_CODE_ERRORS:
        return False
    return True


def _numbers(values: Any) -> tuple[float, ...]:
    if isinstance(values, torch.Tensor):
        values = values.flatten().tolist()
    return (float(values),) if isinstance(values, int | float) else tuple(float(value) for value in values)


# --- torch.hub --------------------------------------------------------------------------------------------------------


def _hub_entry(name: str) -> Callable[[], nn.Module]:
    place, _, entry = name.removeprefix(_TORCH_HUB).rpartition(":")
    if not place or not entry:
        raise UserError(f"{name}: write torch.hub:OWNER/REPO:ENTRY or torch.hub:FOLDER:ENTRY")
    local = Path(place).is_dir()

    def load() -> nn.Module:
        try:
            return torch.hub.load(place, entry, source="local" if local else "github", trust_repo=True, verbose=False)
        except (OSError, RuntimeError) as error:  # raised by the download
            raise WeightsUnavailable(f"{name} cannot be obtained: {str(error).splitlines()[0]}") from error

    return load


# --- torchvision ------------------------------------------------------------------------------------------------------


def _resolve_torchvision(name: str, weights: str, seed: int) -> ResolvedWeights:
    from torchvision import models

    architecture, _, member = name.removeprefix(_TORCHVISION).partition(".")
    if architecture not in models.list_models():
        raise UserError(f"unknown network {name!r}; torchvision.models.list_models() lists them")
    enum = models.get_model_weights(architecture)
    if member and member not in enum.__members__:
        known = ", ".join(enum.__members__) or "none"
        raise UserError(f"torchvision's {architecture} has no weights {member!r}; it has {known}")
    chosen: Any = enum[member] if member else getattr(enum, "DEFAULT", None)
    full = f"{_TORCHVISION}{architecture}.{chosen.name}" if chosen is not None else f"{_TORCHVISION}{architecture}"

    def plain() -> nn.Module:
        options = {"weights": None}
        if "weights_backbone" in inspect.signature(models.get_model_builder(architecture)).parameters:
            options["weights_backbone"] = None  # else it would be downloaded
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return models.get_model(architecture, **options)

    random = WeightsRecord(f"{_TORCHVISION}{architecture}", "random", seed=seed, init="torchvision's")
    preprocessing = _torchvision_preprocessing(chosen)

    def build_random(_: tuple[int, int] | None) -> LoadedModel:
        return LoadedModel(plain().eval(), preprocessing, random, {})

    if weights == "random":
        return ResolvedWeights(name, random, None, build=build_random)
    warning = None
    try:
        if weights not in ("auto", "pretrained"):
            file, tag = named_by_user(weights), f"{_TORCHVISION}{architecture}"
        elif chosen is None:
            raise WeightsUnavailable(f"no trained weights are published for {name}")
        else:
            file, tag = find_weights(full, {"url": chosen.url}), full
    except WeightsUnavailable as error:
        if weights != "auto":
            raise
        warning = random_instead(name, seed, error)
        return ResolvedWeights(name, random, None, warning=warning, build=build_random)
    record = _record_of_file(tag, file)

    def build(_: tuple[int, int] | None) -> LoadedModel:
        loaded = _with_file(plain(), record, file)
        return replace(loaded, preprocessing=preprocessing)

    return ResolvedWeights(name, record, file, build=build)


def _torchvision_preprocessing(weights: Any) -> Preprocessing:
    """Preprocessing by the transforms of a member of a weights enum; ImageNet's values where they specify none."""
    transforms = weights.transforms() if weights is not None else None
    size = getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or [224]
    interpolation = getattr(getattr(transforms, "interpolation", None), "value", "bilinear")
    resize = getattr(transforms, "resize_size", None) or size
    side = int(size[0])
    return Preprocessing(
        tuple(getattr(transforms, "mean", IMAGENET_DEFAULT_MEAN)),
        tuple(getattr(transforms, "std", IMAGENET_DEFAULT_STD)),
        (side, side),
        interpolation,
        side / int(resize[0]),
    )


# --- the Hugging Face hub ---------------------------------------------------------------------------------------------


def _resolve_hf_hub(name: str, weights: str, seed: int) -> ResolvedWeights:
    """Resolve a timm network that a repository of the hub describes in its `config.json`."""
    repository = name.removeprefix(_HF_HUB)
    config = _hub_config(repository)
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise UserError(f"{name} is not a timm network: its config.json names the architecture {architecture!r}")
    random = WeightsRecord(architecture, "random", seed=seed, init="timm's")
    try:
        if weights == "random":
            return ResolvedWeights(name, random, None, build=lambda size: _build_described(config, random, None, size))
        if weights in ("auto", "pretrained"):
            file = find_weights(name, {"hf_hub_id": repository})
        else:
            file = named_by_user(weights)
    except WeightsUnavailable as error:
        if weights != "auto":
            raise
        return ResolvedWeights(
            name,
            random,
            None,
            warning=random_instead(name, seed, error),
            build=lambda size: _build_described(config, random, None, size),
        )
    model = architecture if file.source == "file" else name
    record = _record_of_file(model, file)
    return ResolvedWeights(name, record, file, build=lambda size: _build_described(config, record, file, size))


def _build_described(
    config: Mapping[str, Any], record: WeightsRecord, file: WeightsFile | None, size: tuple[int, int] | None
) -> LoadedModel:
    """Build a timm network from the hub's `config.json`, with the weights of a file or random ones."""
    cfg = dict(config.get("pretrained_cfg") or {})
    overlay = {key: value for key, value in cfg.items() if key not in ("architecture", "tag", "url", "file")}
    model_args = dict(config.get("model_args") or {})
    if (classes := config.get("num_classes", model_args.get("num_classes"))) is not None:
        model_args["num_classes"] = overlay["num_classes"] = classes  # timm would draw another head at random
    if size is not None and cfg.get("fixed_input_size"):
        model_args["img_size"] = size
    architecture, said = config["architecture"], f"{record.file or record.model} does not fit {config['architecture']}"

    def load(tensors: Mapping[str, torch.Tensor] | None) -> nn.Module:
        weights = {} if tensors is None else {"state_dict": dict(tensors)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(record.seed or 0)
            return timm.create_model(
                architecture,
                pretrained=tensors is not None,
                pretrained_cfg_overlay={**overlay, **weights},
                **model_args,
            )

    try:
        if file is None:
            model = load(None)
        else:
            checkpoint = read_checkpoint(file.path, file.key)
            record = record.with_part(checkpoint)
            ours = list_tensors(lambda: timm.create_model(architecture, **model_args))
            refuse_other_types(checkpoint.tensors, ours, said)
            model = load(checkpoint.tensors)
            check_converted(checkpoint.tensors, ours, load, said)
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        raise CheckpointError(f"{said}: {words_of(error)}") from error
    described: Any = model.pretrained_cfg
    described["state_dict"] = None  # else the tensors would be kept in memory twice
    return LoadedModel(model.eval(), preprocessing_of(model), record, model_args)


def _hub_config(repository: str) -> dict[str, Any]:
    """Read `config.json` of a repository of the hub, from the cache or by download."""
    import huggingface_hub
    from huggingface_hub import errors

    repo, _, revision = repository.partition("@")
    try:
        path = huggingface_hub.hf_hub_download(repo, "config.json", revision=revision or None, etag_timeout=10)
    except errors.EntryNotFoundError as error:
        raise UserError(f"hf-hub:{repository} holds no config.json, so it is not a timm network") from error
    except Exception as error:  # errors of its HTTP library are passed on, and that library may change
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsUnavailable(f"hf-hub:{repository} cannot be obtained: {reason}") from error
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}

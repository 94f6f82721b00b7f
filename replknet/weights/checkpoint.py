"""Read checkpoints in common layouts: safely, unwrapped, and with the names of the network's tensors.

A file is only ever read as tensors and plain data (`torch.load(weights_only=True)` or safetensors), never as a pickle
that may run code. Training programs wrap the weights in many ways: under `state_dict`, `model` or `params`, next to
their moving average, or with prefixes of DataParallel, `torch.compile`, Lightning or a detector before every name.
"""

import argparse
import codecs
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runkit import UserError
from runkit.checkpoint_files import fault_of_content

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "check_converted",
    "describe_types",
    "list_keys",
    "list_tensors",
    "read_checkpoint",
    "refuse_other_types",
    "strip_prefix",
    "wrong_types",
]

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema", "teacher")
"""Keys under which files keep a moving average of the weights; as in timm, it is preferred to the raw weights."""
RAW = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "student", "weights")
"""Keys under which files keep the weights themselves."""
_WRAPPERS = (*AVERAGED, *RAW)
_PARALLEL = re.compile(r"^(module\.|_orig_mod\.)+")
_COUNTERS = re.compile(r"(^|\.)(n_averaged|total_ops|total_params)$")
"""Counters that tools store among the weights: the number of averaged models (SWA), thop's counts of operations."""
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NO_PICKLE = "its pickle cannot be read"


class CheckpointError(UserError):
    """A checkpoint file cannot be read, or does not fit the network."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights that a file holds.

    Attributes:
        tensors: Name -> tensor on the CPU; names are those of the file, without the prefixes of DataParallel and
            `torch.compile`.
        part: The part of the file they come from, such as "state_dict_ema"; "" if the file is the state dict itself.
        averaged: Whether they are a moving average of the weights.
    """

    tensors: dict[str, torch.Tensor]
    part: str = ""
    averaged: bool = False


def read_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Read the weights of a file.

    Args:
        path: A `.safetensors` file, or any file written by `torch.save`.
        key: The part of the file that holds the weights, with dots between nested parts, or the prefix of the wanted
            tensors' names. None looks in the usual places: a moving average first, then the weights themselves.

    Raises: CheckpointError if the file is not a checkpoint, would run code, holds no tensors (in this part), or holds
        several tensors for one name.
    """
    content = _load(path)
    if key is not None:
        return _choose(content, key, path)
    parts: list[str] = []
    while (wrapper := _wrapper_of(content)) is not None:
        parts.append(wrapper)
        content = content[wrapper]
    tensors = _tensors(content)
    if not tensors:
        holds = f"; it holds {list_keys(content)}" if isinstance(content, Mapping) and content else ""
        raise CheckpointError(
            f"{path} holds no state dict (a mapping of parameter names to tensors){holds}; --weights {path}#KEY names "
            "the part with the weights"
        )
    return Checkpoint(_without_parallel(tensors, path), ".".join(parts), any(part in AVERAGED for part in parts))


def strip_prefix(checkpoint: Checkpoint, names: Iterable[str], path: Path) -> Checkpoint:
    """Remove the prefix before the network's own names, such as Lightning's `model.` or a detector's `backbone.`.

    The prefix under which most of the network's names are found is removed, and tensors without it are dropped. If
    less than half of the names are found, the file uses other names, and the checkpoint is returned unchanged.

    Args:
        checkpoint: The weights of the file.
        names: The network's names for its parameters and buffers.
        path: The file, for messages.

    Raises: CheckpointError if several prefixes match equally well and not exactly one of them is a moving average's.
    """
    wanted = set(names)
    found: Counter[str] = Counter()
    for key in checkpoint.tensors:
        words = key.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in wanted:
                found[".".join(words[:start])] += 1
    most = max(found.values(), default=0)
    if found[""] == most or most < len(wanted) / 2:
        return checkpoint
    best = [prefix for prefix, count in found.items() if count == most]
    averages = [prefix for prefix in best if prefix.rpartition(".")[2] in AVERAGED]
    if len(best) > 1 and len(averages) != 1:
        raise CheckpointError(
            f"{path} holds several sets of weights for this network: {', '.join(sorted(best))}; choose one by "
            f"--weights {path}#{min(best)}"
        )
    prefix = (averages or best)[0]
    tensors = {
        key.removeprefix(f"{prefix}."): value
        for key, value in checkpoint.tensors.items()
        if key.startswith(f"{prefix}.")
    }
    part = ".".join(filter(None, (checkpoint.part, prefix)))
    return Checkpoint(tensors, part, checkpoint.averaged or prefix.rpartition(".")[2] in AVERAGED)


def wrong_types(tensors: Mapping[str, torch.Tensor], ours: Mapping[str, Any]) -> list[str]:
    """Names of tensors whose type does not suit the network's: weights take floating-point types of 16 bits or more.

    Other types would be converted without an error, but to other numbers: quantised weights lack their scale, complex
    ones lose their imaginary part. The network's integers, such as counters, may come from any type.

    Args:
        tensors: The weights of the file, under the network's names; others are passed over.
        ours: The network's state dict.
    """

    def is_wrong(value: torch.Tensor, wanted: Any) -> bool:
        if not isinstance(wanted, torch.Tensor) or not (wanted.is_floating_point() or wanted.is_complex()):
            return False
        return value.dtype not in (*_FLOATING, wanted.dtype)

    return [key for key, value in tensors.items() if is_wrong(value, ours.get(key))]


def _without_other_types(
    tensors: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Leave out what cannot be a weight by its type and has a name that the network lacks, except counters.

    If timm, which converts other layouts, can still fill the network, none of what is missing was one of its weights.

    Args:
        tensors: The weights of the file, perhaps in another layout.
        ours: The network's state dict.
    """
    counters = {_last_word(key) for key, value in ours.items() if not value.is_floating_point()}
    return {
        key: value
        for key, value in tensors.items()
        if value.dtype in _FLOATING or key in ours or _last_word(key) in counters
    }


def refuse_other_types(tensors: Mapping[str, torch.Tensor], ours: Mapping[str, Any], said: str) -> None:
    """Raises: CheckpointError, which begins with `said`, if `wrong_types` finds any."""
    if wrong := wrong_types(tensors, ours):
        raise CheckpointError(f"{said}: {describe_types(tensors, wrong)}")


def list_tensors(build: Callable[[], torch.nn.Module]) -> dict[str, torch.Tensor]:
    """A network's state dict for its names, shapes and types; without initial weights where the network allows it."""
    try:
        with torch.device("meta"):
            return build().state_dict()
    except (RuntimeError, NotImplementedError, TypeError, UserError):  # its constructor computes with the weights
        with torch.random.fork_rng(devices=[]):
            return build().state_dict()


def check_converted(
    tensors: Mapping[str, torch.Tensor],
    ours: Mapping[str, torch.Tensor],
    load: Callable[[Mapping[str, torch.Tensor]], torch.nn.Module],
    said: str,
) -> None:
    """Check the types of tensors that timm has given other names: without those that are no weights, it loads the rest.

    Args:
        tensors: The weights of the file, which timm has loaded.
        ours: The network's state dict.
        load: Builds the network with weights, strictly.
        said: Beginning of the message.

    Raises: CheckpointError if the network needs a tensor that is no weight by its type.
    """
    kept = _without_other_types(tensors, ours)
    others = tensors.keys() - kept.keys()
    if not others:
        return
    try:
        load(kept)
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        wrong = [key for key in tensors if key in others]
        raise CheckpointError(f"{said}: {describe_types(tensors, wrong)}") from error


def describe_types(tensors: Mapping[str, torch.Tensor], keys: Iterable[str]) -> str:
    """Describe tensors whose type does not suit a network, for messages."""
    first, *others = keys
    named = f"{first} and {len(others)} more are" if others else f"{first} is"
    kind = str(tensors[first].dtype).removeprefix("torch.")
    return f"{named} of type {kind}, but weights must be float16, bfloat16, float32 or float64"


def _last_word(key: str) -> str:
    return key.rpartition(".")[2]


def list_keys(content: Iterable[Any], most: int = 8) -> str:
    """List the first keys of a mapping, for messages."""
    keys = [str(key) for key in content]
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _wrapper_of(content: Any) -> str | None:
    """The key under which a mapping keeps its weights; None if they are at its top level, or nowhere."""
    if not isinstance(content, Mapping):
        return None
    return next((key for key in _WRAPPERS if _holds_tensors(content.get(key))), None)


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and (bool(_tensors(content)) or _wrapper_of(content) is not None)


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {
        str(key): value
        for key, value in content.items()
        if isinstance(value, torch.Tensor) and not _COUNTERS.search(str(key))
    }


def _plain(key: str) -> str:
    """A tensor's name without the prefixes of DataParallel and `torch.compile`, in whichever order they were added."""
    return _PARALLEL.sub("", key).replace("._orig_mod.", ".")


def _without_parallel(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Remove the prefixes of DataParallel and `torch.compile` from the names.

    Raises: CheckpointError if two names are then the same.
    """
    known: dict[str, str] = {}
    for key in tensors:
        if (other := known.setdefault(_plain(key), key)) != key:
            raise CheckpointError(
                f"{path} holds several sets of weights for this network: {other} and {key} both stand for "
                f"{_plain(key)}; save the set that is meant in a file of its own"
            )
    return {name: tensors[key] for name, key in known.items()}


def _choose(content: Any, key: str, path: Path) -> Checkpoint:
    """Select the part of a file that the user names."""
    part, rest = content, key
    while rest and isinstance(part, Mapping):
        word = rest if rest in part else next((w for w in _heads(rest) if isinstance(part.get(w), Mapping)), None)
        if word is None:
            break
        part, rest = part[word], rest[len(word) + 1 :]
    tensors = _tensors(part)
    if rest:  # the names of the tensors begin with it
        tensors = {k: v for k, v in tensors.items() if _plain(k).startswith(f"{rest}.")}
    tensors = {k.removeprefix(f"{rest}."): v for k, v in _without_parallel(tensors, path).items()}
    if not tensors:
        known = list_keys(content) if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path} has no weights under {key!r}; it holds {known}")
    return Checkpoint(tensors, key, any(word in AVERAGED for word in key.split(".")))


def _heads(key: str) -> Sequence[str]:
    """`a.b.c` -> `a.b`, `a`."""
    words = key.split(".")
    return [".".join(words[:end]) for end in range(len(words) - 1, 0, -1)]


def _load(path: Path) -> Any:
    if fault := fault_of_content(path):
        raise CheckpointError(fault)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path, device="cpu")
        _check_zip(path)
        with torch.serialization.safe_globals(_plain_data()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # an error follows if it matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if wanted is None:
            raise CheckpointError(f"{path} is damaged or no PyTorch file: {_NO_PICKLE}") from error
        raise CheckpointError(
            f"{path} wants to run code when read ({wanted[1]}) and was not loaded; "
            "save its state dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, UnicodeError) as error:
        # PyTorch read the bytes as a pickle and failed at one of them; the error says nothing more
        raise CheckpointError(f"{path} is damaged or no PyTorch file: {_NO_PICKLE}") from error
    except Exception as error:  # torch and safetensors raise many kinds of errors for a damaged file
        text = str(error).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}") from error


def _plain_data() -> list[Any]:
    """Types that training scripts save with the weights and that cannot run code: arguments, paths, numbers, arrays.

    Pickle stores the module that a class had when the file was written, so those of NumPy are listed under both names.
    """
    core = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray  # type: ignore[attr-defined]
    numpy_names = [
        (function, f"numpy.{package}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for package in ("core", "_core")
        for function in [getattr(core, name)]
    ]
    dtypes = [value for name, value in vars(np.dtypes).items() if name.endswith("DType")]
    paths = [pathlib.PurePosixPath, pathlib.PureWindowsPath]
    foreign = [(pathlib.PurePosixPath, f"pathlib{module}.PosixPath") for module in ("", "._local")] + [
        (pathlib.PureWindowsPath, f"pathlib{module}.WindowsPath") for module in ("", "._local")
    ]
    builtin = [dict, float, int, list, set, str, tuple]  # factories of a defaultdict
    return [
        argparse.Namespace,
        types.SimpleNamespace,
        (_empty_dict, "collections.defaultdict"),
        codecs.encode,  # used for bytes in old pickles
        np.ndarray,
        np.dtype,
        *paths,
        *foreign,
        *numpy_names,
        *dtypes,
        *builtin,
    ]


def _empty_dict(*_: Any) -> dict[Any, Any]:
    """Replacement for `defaultdict`, which PyTorch's safe reader can create but not fill."""
    return {}


def _check_zip(path: Path) -> None:
    """Detect damage in a checkpoint that is a zip file; PyTorch checks no checksums, and other formats have none.

    Raises: ValueError naming the damaged part.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # if an entry is marked as a folder, PyTorch reads nothing and returns uninitialised memory
            marked = (part.filename for part in archive.infolist() if part.external_attr & 0x10 and not part.is_dir())
            if damaged := next(marked, None) or archive.testzip():
                raise ValueError(f"its part {damaged} is damaged")

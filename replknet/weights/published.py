"""timm's configuration of weights that other projects publish, read from the manifest of files.

The manifest (`runkit.fetch.manifest`, section `published_weights`) lists the address, the published accuracy and the
licences of each checkpoint of the large-kernel networks. The module of each network adds the preprocessing of its
images.
"""

import re
from typing import Any

from runkit.fetch.manifest import known_files

__all__ = ["published_cfg"]

_HUB_ADDRESS = re.compile(r"https://huggingface\.co/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


def published_cfg(tag: str) -> dict[str, Any]:
    """Return where timm finds the weights `arch.tag`, and their licence.

    Files on the Hugging Face hub are given by repository and name, since the hub publishes their hash. A file on Google
    Drive, which cannot be fetched automatically, has no address here.

    Raises: KeyError if the weights are not in the manifest.
    """
    file = known_files("published_weights")[tag]
    cfg: dict[str, Any] = {"license": file.weights_license.lower()}
    if on_hub := _HUB_ADDRESS.fullmatch(file.url):
        repository, revision, name = on_hub.groups()
        at = "" if revision == "main" else f"@{revision}"
        return {**cfg, "hf_hub_id": repository + at, "hf_hub_filename": name}
    return {**cfg, "url": file.url}

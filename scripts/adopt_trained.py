"""Add finished trainings to the repository: `python scripts/adopt_trained.py DIR`.

DIR is a folder written by `replknet.train`, with cards from `replknet.evaluate`. Weights without a seed in their name
(seed 0) are shipped: their files are copied to replknet/checkpoints, and their hashes are added to the manifest. For
all other trainings, only record, card and learning curve are copied, to figures/reference/trainings, because the
weights of several seeds would be too large. Run `scripts/figures` afterwards to update pictures, tables and pages.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replknet.weights.imagenette import CHECKPOINTS, TAG
from runkit import UserError, atomic_write, load_json, run_main, sha256_of_file

_ROOT = Path(__file__).resolve().parent.parent
MANIFEST = _ROOT / "runkit" / "fetch" / "manifest.json"
MORE = _ROOT / "figures" / "reference" / "trainings"
_ENDINGS = ("json", "csv", "md")


def adopt(folder: Path) -> list[Path]:
    """Copy the files, write the manifest, and return the paths of all written files.

    Raises: UserError if there are no trainings, or one cannot be adopted: a file is missing, it was not evaluated, a
        kernel tap met no image or is zero, or a network without shipped weights has the tag of shipped ones.
    """
    manifest = load_json(MANIFEST)
    packaged = manifest["packaged_weights"]
    found = sorted(folder.glob(f"*.{TAG}*.safetensors"))
    if not found:
        raise UserError(f"{folder} holds no NAME.{TAG}.safetensors; name the folder that replknet.train wrote into")
    for weights in found:
        _check(weights, packaged)
    written = []
    for weights in found:
        name, tag, _ = weights.name.split(".")
        shipped = tag == TAG
        target = CHECKPOINTS if shipped else MORE
        target.mkdir(parents=True, exist_ok=True)
        for ending in [*_ENDINGS, *(["safetensors"] if shipped else [])]:
            source = weights.with_suffix(f".{ending}")
            shutil.copyfile(source, target / source.name)
            written.append(target / source.name)
        if shipped:
            packaged[f"{name}.{TAG}"] |= {"sha256": sha256_of_file(weights), "size": weights.stat().st_size}
    with atomic_write(MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*written, MANIFEST]


def _check(weights: Path, packaged: Mapping[str, Any]) -> None:
    """Check that a training can be adopted.

    Raises: UserError as `adopt`.
    """
    for ending in _ENDINGS:
        if not weights.with_suffix(f".{ending}").is_file():
            raise UserError(f"{weights.with_suffix(f'.{ending}')} is missing; replknet.evaluate writes it")
    record = load_json(weights.with_suffix(".json"))
    if "evaluation" not in record:
        raise UserError(f"{weights} was not evaluated here; run python -m replknet.evaluate {weights} --data DIR")
    taps = record["taps"]
    if taps["unreached"] or taps["zero"]:
        raise UserError(
            f"{weights}: {taps['unreached']} taps met no image and {taps['zero']} are zero; train on larger images"
        )
    name, tag, _ = weights.name.split(".")
    if tag == TAG and f"{name}.{TAG}" not in packaged:
        raise UserError(f"{weights} is of a network whose weights are not shipped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="what replknet.train wrote, with evaluated cards")
    folder = parser.parse_args(arguments).folder

    def work() -> int:
        sys.stdout.writelines(f"{path}\n" for path in adopt(folder))
        return 0

    return run_main(work, program="scripts/adopt_trained.py")


if __name__ == "__main__":
    sys.exit(main())

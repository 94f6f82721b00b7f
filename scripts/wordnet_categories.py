"""Write `shapebias/stimuli/wordnet_categories.csv`: the WordNet 3.0 noun synsets that belong to the 16 categories.

Run this script after a change of the rules below; the table is part of the repository. WordNet's noun file comes with
Debian's package wordnet-base:

    python scripts/wordnet_categories.py /usr/share/wordnet/data.noun

A synset belongs to a category if it is the category's root or one of its hyponyms (`@` and `@i` pointers). The classes
of ImageNet-1k follow the toolbox model-vs-human instead, which leaves out some of them (a cock is not a "bird" there)
and adds others (a cougar is a "cat"). The column `rule` is 'toolbox' if the toolbox decides differently from
WordNet, else 'wordnet'. `imagenet_1k` is the index of the synset among the 1000 classes, if it is one of them.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from timm.data import ImageNetInfo

from shapebias.stimuli.categories import IMAGENET_INDICES

TABLE = Path(__file__).parent.parent / "shapebias" / "stimuli" / "wordnet_categories.csv"
ROOTS = {
    "airplane": "n02691156",
    "bear": "n02131653",
    "bicycle": "n02834778",
    "bird": "n01503061",
    "boat": "n02858304",
    "bottle": "n02876657",
    "car": "n02958343",
    "cat": "n02121808",
    "chair": "n03001627",
    "clock": "n03046257",
    "dog": "n02084071",
    "elephant": "n02503517",
    "keyboard": "n03614007",
    "knife": "n03623556",
    "oven": "n03862676",
    "truck": "n04490091",
}


def read_nouns(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Read the first word of each synset, and the synsets directly above it, from WordNet's `data.noun`."""
    words: dict[str, str] = {}
    above: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields = line.partition("|")[0].split()
        synset, pointers_at = f"n{fields[0]}", 4 + 2 * int(fields[3], 16)
        pointers = fields[pointers_at + 1 : pointers_at + 1 + 4 * int(fields[pointers_at])]
        words[synset] = fields[4].replace("_", " ")
        above[synset] = [
            f"n{target}"
            for kind, target, part, _ in zip(*[iter(pointers)] * 4, strict=True)
            if kind in ("@", "@i") and part == "n"
        ]
    return words, above


def ancestors(synset: str, above: dict[str, list[str]]) -> Iterator[str]:
    """The synset itself, then all synsets above it, nearest first."""
    level, seen = [synset], {synset}
    while level:
        yield from level
        level = [up for one in level for up in above[one] if up not in seen and not seen.add(up)]  # type: ignore[func-returns-value]


def main() -> None:
    """Write the table."""
    words, above = read_nouns(Path(sys.argv[1]))
    category_of = {root: category for category, root in ROOTS.items()}
    toolbox = {index: category for category, indices in IMAGENET_INDICES.items() for index in indices}
    imagenet = {synset: index for index, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    rows = []
    for synset, word in sorted(words.items()):
        wordnet = next((category_of[up] for up in ancestors(synset, above) if up in category_of), "")
        index = imagenet.get(synset)
        category = wordnet if index is None else toolbox.get(index, "")
        if category or wordnet:
            rule = "wordnet" if category == wordnet else "toolbox"
            rows.append((synset, category, rule, "" if index is None else index, word))
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("synset", "category", "rule", "imagenet_1k", "word"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()

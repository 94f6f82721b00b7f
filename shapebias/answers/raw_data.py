"""The raw-data CSV of the model-vs-human toolbox, as it is in the file: one observer, one row per trial.

The published files differ in some details, all of which are accepted. Files of people have LF line ends, those of
networks CRLF. Files of people for the twelve distortions have the column `Session`, all others `session`. Image names
contain the number of the trial and `s01` for people, and `dnn` for networks, or nothing of this kind where images lie
in category folders. Only the standard library is used: it reads tens of thousands of rows in a fraction of a second.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runkit import UserError
from runkit.files import refuse_special_file

__all__ = [
    "COLUMNS",
    "NO_ANSWER",
    "PERSON_PREFIX",
    "RANDOM_SUFFIX",
    "RawData",
    "image_id",
    "label_of",
    "read_raw_data",
]

COLUMNS = ("subj", "session", "trial", "rt", "object_response", "category", "condition", "imagename")
NO_ANSWER = "na"
"""`object_response` of a person who did not answer in time."""
PERSON_PREFIX = "subject-"
"""Prefix of the `subj` of a person."""
RANDOM_SUFFIX = "-random-weights"
"""Suffix of the `subj` of an untrained network, so that every plot of its CSV shows that the weights are random."""
_IMAGENET_PREFIX = "n0"


@dataclass(frozen=True)
class RawData:
    """A raw-data CSV.

    Attributes:
        path: The file.
        sha256: SHA-256 of its bytes.
        subject: The observer's name.
        columns: Column name in lower case -> the cells of the column, one per trial.
        parts: The files of all sessions, if several were joined (`shapebias.answers.sessions`); path and sha256 are
            then those of the first.
    """

    path: Path
    sha256: str
    subject: str
    columns: Mapping[str, Sequence[str]] = field(repr=False)
    parts: "tuple[RawData, ...]" = field(default=(), repr=False)

    @property
    def is_person(self) -> bool:
        """Whether the observer is a person."""
        return self.subject.startswith(PERSON_PREFIX)

    def describe_doubt(self) -> str:
        """Describe why the observer may not be a person, or not a network, after all; empty if there is no doubt.

        In the published files, every person has a response time (`rt`) for every answer, and no network has any.
        """
        answered = [
            time
            for time, answer in zip(self.columns["rt"], self.columns["object_response"], strict=True)
            if answer != NO_ANSWER
        ]
        timed = sum(map(_is_time, answered))
        if self.is_person and answered and not timed:
            return (
                f"{self.subject} counts as a person by its name, but has no response time (rt), as networks have none; "
                f"the subj of a network must not begin with {PERSON_PREFIX!r}"
            )
        if not self.is_person and timed:
            return (
                f"{self.subject} counts as a network by its name, but has response times (rt), as people have them; "
                f"the subj of a person begins with {PERSON_PREFIX!r}"
            )
        return ""


def _is_time(text: str) -> bool:
    """Whether a cell of the column `rt` holds a time, and not NaN, zero or nothing."""
    try:
        return float(text) > 0
    except ValueError:
        return False


def image_id(name: str) -> str:
    """Return the part of a trial's `imagename` that identifies the image within its dataset.

    It is the piece after the last underscore. For photographs of ImageNet, it is the last two pieces.

    `0001_cl_s01_cr_oven_40_n04111531_14126.png` -> `n04111531_14126.png`, `0001_sif_s01_0_boat_00_boat5.png` ->
    `boat5.png`.
    """
    rest, _, last = name.rpartition("_")
    before = rest.rpartition("_")[2]
    return f"{before}_{last}" if before.startswith(_IMAGENET_PREFIX) else last


def label_of(subject: str) -> str:
    """Return the name of an observer for figures and tables, which marks networks with random weights."""
    if subject.endswith(RANDOM_SUFFIX):
        return f"{subject.removesuffix(RANDOM_SUFFIX)} (RANDOM WEIGHTS)"
    return subject


def read_raw_data(path: str | Path) -> RawData:
    """Read a raw-data CSV (LF or CRLF line ends; column names in any case).

    Raises: UserError that names the file and the fault: it is unreadable, not a regular file or empty, has missing or
        duplicate columns, a row of another length, no rows, several observers, or an invalid observer's name.
    """
    path = Path(path)
    refuse_special_file(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip().lower() for name in next(reader, [])]
        rows = [row for row in reader if row]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV: {error}") from error
    if not text.strip():
        raise UserError(f"{path} is empty; a raw-data CSV has the columns {', '.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        hint = "; its columns are not separated by commas" if len(header) == 1 and COLUMNS[0] in header[0] else ""
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; a raw-data CSV has {', '.join(COLUMNS)}{hint}")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path} has the column {twice[0]!r} twice")
    if any(len(row) != len(header) for row in rows):
        reader = csv.reader(io.StringIO(text, newline=""))  # read again, for the line number
        line, fields = next((reader.line_num, len(row)) for row in reader if row and len(row) != len(header))
        raise UserError(f"{path}, line {line}: {fields} fields, the header has {len(header)}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    subjects = sorted(set(columns.get("subj", ())))
    if len(subjects) != 1:
        found = f"{len(subjects)} observers ({', '.join(subjects[:3])})" if subjects else "no rows"
        raise UserError(f"{path} holds {found}; a raw-data CSV has one observer and one row per trial")
    if not subjects[0].isprintable() or not subjects[0].strip():
        raise UserError(f"{path}: subj {subjects[0]!r} is not the name of an observer")
    _refuse_doubtful(path, subjects[0])
    return RawData(path, hashlib.sha256(content).hexdigest(), subjects[0], columns)


def _refuse_doubtful(path: Path, subject: str) -> None:
    """Refuse an observer's name that leaves open whether it is a person, or that is reserved.

    Raises: UserError if it is such a name.
    """
    if subject != subject.strip():
        raise UserError(f"{path}: subj {subject!r} has spaces around it")
    if subject.lower().startswith(PERSON_PREFIX) and not subject.startswith(PERSON_PREFIX):
        raise UserError(f"{path}: subj {subject!r}: a person's begins with {PERSON_PREFIX!r} in small letters")
    if subject == "people":
        raise UserError(f"{path}: subj 'people' means all persons together; give the observer another name")

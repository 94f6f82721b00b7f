"""Join the files of observers that have several, one per session."""

from collections.abc import Sequence
from dataclasses import replace

from runkit import UserError
from shapebias.answers.raw_data import COLUMNS, RawData, image_id

__all__ = ["join_sessions"]


def join_sessions(files: Sequence[RawData]) -> list[RawData]:
    """Join files of one observer that hold different sessions into one, in the place of the first, with all trials.

    Files of one observer that have a session in common are not joined: they are either the same answers twice or two
    observers of the same name.

    Raises: UserError if an image was answered in two sessions.
    """
    of_subject: dict[str, list[RawData]] = {}
    for raw in files:
        of_subject.setdefault(raw.subject, []).append(raw)
    joined: list[RawData] = []
    for parts in of_subject.values():
        sessions = [session for raw in parts for session in set(raw.columns["session"])]
        joined += [_join(parts)] if len(parts) > 1 and len(sessions) == len(set(sessions)) else parts
    return joined


def _join(parts: Sequence[RawData]) -> RawData:
    answered: dict[str, RawData] = {}
    for raw in parts:
        for name in raw.columns["imagename"]:
            other = answered.setdefault(image_id(name), raw)
            if other is not raw:
                raise UserError(
                    f"{raw.path} and {other.path} are two sessions of the observer {raw.subject!r}, and both answer "
                    f"the image {image_id(name)!r}"
                )
    columns = {name: tuple(cell for raw in parts for cell in raw.columns[name]) for name in COLUMNS}
    return replace(parts[0], columns=columns, parts=tuple(parts))

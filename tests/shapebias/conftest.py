"""Observers whose answers are known."""

from collections.abc import Callable

import pytest

from shapebias.observers import Observer, make_trials


@pytest.fixture
def make_observer() -> Callable[..., Observer]:
    """Build an observer from `{image name: answer}`."""

    def build(answers: dict[str, str], *, name: str = "net", **fields) -> Observer:
        return Observer(name, make_trials(name, list(answers), list(answers.values())), **fields)

    return build

"""Control over the random number generators that a forward pass may use: those of PyTorch, NumPy and Python.

Something that happens in one of a thousand passes is not seen in a few of them. It is seen if the generators first give
their smallest numbers and then their largest: any test such as `random.random() < 0.001` then has both outcomes.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["drawing", "same_random_numbers", "what_was_drawn"]

_WORDS = 624  # words of a Mersenne Twister's state; all three are Mersenne Twisters on the CPU
_AT_THE_END = 500  # number of extreme words; ordinary ones follow, since some loops wait for one
_WORD_OF = {"smallest": 0, "largest": 0x12DD9BB3}  # the state words that produce 0 and 2**32 - 1
_TORCH_BYTES = 5056  # size of the state of PyTorch's generator, which is undocumented
_TORCH_LEFT, _TORCH_NEXT, _TORCH_WORDS = slice(8, 12), slice(16, 24), slice(24, 24 + 8 * _WORDS)


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Restore the state of the generators on leaving this context, including that of a device."""
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def what_was_drawn(device: torch.device) -> tuple[bytes, ...]:
    """The states of the generators. They change as soon as a number is drawn."""
    words = np.random.get_state(legacy=False)["state"]
    states = [torch.random.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    numpy = str([(key, np.asarray(value).tobytes()) for key, value in sorted(words.items())])
    return (repr(random.getstate()).encode(), numpy.encode(), *(state.numpy().tobytes() for state in states))


@contextmanager
def drawing(which: str) -> Iterator[None]:
    """Inside this context, the first numbers drawn on the CPU are the 'smallest' or the 'largest' possible ones."""
    words = [_WORD_OF[which]] * _AT_THE_END + list(range(1, 1 + _WORDS - _AT_THE_END))
    with same_random_numbers(torch.device("cpu")):
        random.setstate((3, (*words, 0), None))
        if np.random.get_state(legacy=False)["bit_generator"] == "MT19937":
            np.random.set_state(("MT19937", np.array(words, dtype=np.uint32), 0, 0, 0.0))
        state = torch.random.get_rng_state().numpy().copy()
        if len(state) == _TORCH_BYTES:
            state[_TORCH_LEFT].view(np.int32)[:] = _WORDS
            state[_TORCH_NEXT].view(np.uint64)[:] = 0
            state[_TORCH_WORDS].view(np.uint64)[:] = words
            torch.random.set_rng_state(torch.from_numpy(state))
        yield

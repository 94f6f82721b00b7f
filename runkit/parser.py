"""The parser of every command line. It answers a mistake in two lines, which suggest the nearest option or value.

`argparse` prints all options before an error. With 40 options, the error is lost in a screen of text.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

__all__ = ["Parser", "nearest"]


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The entry of `known` that is most similar to `name`, ignoring case; "" if none is similar enough.

    Args:
        cutoff: Minimum similarity, 0 to 1, as `difflib.get_close_matches` measures it.
    """
    by_letters = {word.lower(): word for word in reversed(list(known))}
    close = difflib.get_close_matches(name.lower(), by_letters, n=1, cutoff=cutoff)
    return by_letters[close[0]] if close else ""


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` with short messages."""

    def error(self, message: str) -> NoReturn:
        """Print the message after a line that says where the options are explained, and exit with 2."""
        self.exit(2, f"usage: {self.prog} [options]; {self.prog} --help explains them\n{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but an unknown option is refused before missing arguments are reported."""
        words = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown(words)
        return super().parse_known_args(words, namespace)

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        options = [option for option in self._option_string_actions if option.startswith("--")]
        for word in words:
            if word == "--":
                return  # the rest are not options
            name = word.partition("=")[0]
            # as in argparse, a word with a space is a value, and an option may be abbreviated
            if not name.startswith("--") or " " in name or any(option.startswith(name) for option in options):
                continue
            near = nearest(name, options)
            self.error(f"there is no option {name}" + (f"; did you mean {near}?" if near else ""))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, which calls this for every value, but the message suggests the nearest choice."""
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        near = nearest(str(value), choices)
        hint = f"did you mean {near}?" if near else f"choose from {', '.join(choices)}"
        raise argparse.ArgumentError(action, f"invalid choice: {value!r} ({hint})")

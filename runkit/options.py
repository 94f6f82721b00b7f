"""Options that both command lines have, said once."""

import argparse

__all__ = ["PICTURE_FORMATS", "add_formats", "add_weights"]

PICTURE_FORMATS = ("png", "pdf", "svg")
_Group = argparse.ArgumentParser | argparse._ArgumentGroup


def add_weights(group: _Group, *, auto: str, several: bool = False) -> None:
    """`--weights`; `auto` says what the tool does where there are no trained weights, `several` takes a list."""
    group.add_argument(
        "--weights",
        nargs="+" if several else None,
        default=["auto"] if several else "auto",
        metavar="auto|pretrained|random|PATH",
        help=f"trained weights ('auto': {auto}); random ones from --seed; or a checkpoint's path (default auto)",
    )


def add_formats(group: _Group) -> None:
    """`--formats`."""
    group.add_argument(
        "--formats", nargs="+", choices=PICTURE_FORMATS, default=["png"], help="of the pictures (default png)"
    )

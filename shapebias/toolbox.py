"""Interface to the model-vs-human toolbox: its `Evaluate` and `Plot` run our networks on all its datasets.

The toolbox is only published as a repository. Install it with

    pip install "modelvshuman @ git+https://github.com/bethgelab/model-vs-human"

and set the environment variable MODELVSHUMANDIR as its README says. Then:

    from shapebias.toolbox import register
    from modelvshuman import Evaluate

    names = register(["replknet31b.in1k", "resnet152.tv_in1k"])
    Evaluate()(list(names), ["cue-conflict", "sketch"], batch_size=16, num_workers=4, print_predictions=True)

The toolbox evaluates the name of a model as Python code, so a network is registered under a name that is an identifier,
such as `replknet31b_in1k`. This is also the `subj` of its CSV.
"""

import importlib
from typing import TYPE_CHECKING, Any

from runkit import write_out

if TYPE_CHECKING:
    from shapebias.network.toolbox import ToolboxNetwork, register, renormalise, toolbox_name

__all__ = ["ToolboxNetwork", "register", "renormalise", "toolbox_name"]


def __getattr__(name: str) -> Any:
    if name not in __all__:  # PyTorch is imported with the first of these names
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("shapebias.network.toolbox"), name)


if __name__ == "__main__":
    write_out(str(__doc__))

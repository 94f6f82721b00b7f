"""The model zoo that both tools share: RepLKNet beside every network of timm, and how weights get into it.

Importing this package registers the networks, so `timm.create_model("replknet31b")` works for anyone: at once if timm
is loaded, else as soon as it is. By itself it loads neither timm nor torch.
"""

import sys
from types import ModuleType

import lazy_loader

from runkit.after_import import after_import

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """`replknet.optimize` is the function, also after something imported the module of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "optimize" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
after_import("timm", "replknet.zoo")

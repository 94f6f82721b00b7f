"""Shape bias of vision networks on the cue-conflict benchmark, identical to that of the model-vs-human toolbox.

`evaluate(model, stimuli)` asks a network, `measure(observer)` says what the answers mean; `python -m shapebias.run`
does both for any network of the zoo. Importing this package is light: names are loaded when they are used, and only
`evaluate` and `predict` load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

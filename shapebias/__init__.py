"""Shape bias of vision networks on the cue-conflict benchmark, identical to that of the model-vs-human toolbox.

`evaluate(model, stimuli)` returns the answers of a network, and `measure(observer)` computes the measures of an
observer's answers; `python -m shapebias.run` does both for any network of the zoo. Importing this package is light:
names are imported when they are used, and only `evaluate` and `predict` import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""How atoms and weights move: the training loop, its data, and the rules that plug into it."""

import lazy_loader

from calepin.learning.train import train  # noqa: F401  now: the module has the function's name

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

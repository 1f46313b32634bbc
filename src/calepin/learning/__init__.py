"""Training of atoms and network weights: the training loop, batches of samples, and update rules."""

import lazy_loader

from calepin.learning.train import train  # noqa: F401  not lazy: the module has the function's name

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Reading and writing of images and arrays, bundled samples, public test sets, simulated data and noise."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Images, arrays and bundled samples in files, simulators, noise, the folder of CALEPIN_DATA."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

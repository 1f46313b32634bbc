"""Reconstruction from few measurements by untrained networks, and theory of how many are needed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

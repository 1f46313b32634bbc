"""Spike trains: files, regression with history, event models, goodness of fit, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Spike trains: files, regressions with history, models of events, how well a model fits, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

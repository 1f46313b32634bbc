"""Estimators in the style of scikit-learn: the main interface of calepin."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

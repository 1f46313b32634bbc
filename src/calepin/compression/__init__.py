"""Samples compressed by the latents of a generative dictionary, and what that costs and loses."""

import lazy_loader

from calepin.compression.rate_distortion import rate_distortion  # noqa: F401  now: the module has its name

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

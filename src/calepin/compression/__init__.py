"""Compression by the latents of a generative dictionary, .clp files, rate and distortion."""

import lazy_loader

from calepin.compression.rate_distortion import rate_distortion  # noqa: F401  imported now, since the module has the same name

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

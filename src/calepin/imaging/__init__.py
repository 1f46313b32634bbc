"""Image denoising by dictionaries and networks, with patches, noise level and groups of patches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Images restored by dictionaries and networks, and the patches, noise level and groups it needs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

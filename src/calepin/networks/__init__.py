"""Networks: layers that are iterations of a solver, generators fitted to one observation, priors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Codes of observations for a given operator and likelihood: iterative solvers and exact coders."""

import lazy_loader

# imported now, not on first use: these functions have the same names as their modules
from calepin.solvers.decode import decode  # noqa: F401
from calepin.solvers.iterate import iterate  # noqa: F401
from calepin.solvers.solve import solve  # noqa: F401

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""calepin: learn dictionaries and recover signals.

    y ~ family(mean = link^-1(A x + offset)),   x = D z  or  A G(z)  or  network(fixed input)

The names in ``__init__.pyi`` load their modules on first use, so that ``import calepin`` costs little more
than ``import lazy_loader``.
"""

import lazy_loader

_public_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name != "__version__":
        return _public_name(name)
    from calepin.core.package import version

    return version()

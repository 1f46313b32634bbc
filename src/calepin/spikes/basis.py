"""Smooth functions of the time since a spike, whose weighted sums are filters of history and coupling."""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_number

__all__ = ["bspline_basis", "raised_cosine_basis"]

Floats = NDArray[np.float64]


def raised_cosine_basis(n_lags: int, n_basis: int, *, stretch: float = 1.0) -> Floats:
    """Return raised cosines on a logarithmic axis of time: fine after a spike, coarse later.

        b_k(l) = 0.5 * (1 + cos(min(pi, |u(l) - c_k| * pi / (2 d)))),      u(l) = log(l - 1 + stretch)

    with centres c_k at distances d from the first to the last lag (Pillow et al., "Spatio-temporal
    correlations and visual signalling in a complete neuronal population", 2008, supplement).

    Parameters
    ----------
    n_lags : int
        Bins after a spike.
    n_basis : int
        Number of functions, at least 2 and at most n_lags.
    stretch : float, default 1
        The larger, the closer to a linear axis; positive, at most 1e6.

    Returns
    -------
    array of shape (n_lags, n_basis)

    Raises
    ------
    ValueError
        Sizes or a stretch out of range.

    Examples
    --------
    >>> from calepin.spikes import raised_cosine_basis
    >>> raised_cosine_basis(20, 4).shape
    (20, 4)
    """
    check_arguments(raised_cosine_basis, locals())
    check_integer("n_lags", n_lags, least=2)
    check_integer("n_basis", n_basis, least=2, most=n_lags)
    check_number("stretch", stretch, above=0, most=1e6)  # beyond, the logarithms are all equal
    u = np.log(np.arange(n_lags) + stretch)
    centres = np.linspace(u[0], u[-1], n_basis)
    distance = np.abs(u[:, None] - centres) * np.pi / (2 * (centres[1] - centres[0]))
    return 0.5 * (1 + np.cos(np.minimum(np.pi, distance)))


def bspline_basis(n_lags: int, n_basis: int, *, degree: int = 3) -> Floats:
    """Return B-splines with equally spaced knots; their sum is 1 at each lag.

    Parameters
    ----------
    n_lags : int
        Bins after a spike.
    n_basis : int
        Number of functions, more than the degree and at most n_lags.
    degree : int, default 3

    Returns
    -------
    array of shape (n_lags, n_basis)

    Raises
    ------
    ValueError
        Sizes or a degree out of range.
    """
    check_arguments(bspline_basis, locals())
    check_integer("n_lags", n_lags, least=2)
    check_integer("degree", degree, least=0)
    check_integer("n_basis", n_basis, least=degree + 1, most=n_lags)
    inner = np.linspace(0, n_lags - 1, n_basis - degree + 1)
    knots = np.concatenate([np.full(degree, inner[0]), inner, np.full(degree, inner[-1])])
    return BSpline.design_matrix(np.arange(n_lags, dtype=np.float64), knots, degree).toarray()

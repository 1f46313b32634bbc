"""How an observation scatters around its mean: the data term of every problem.

    y ~ family( mean = f^{-1}(eta) ),        eta = A(z) + offset

A likelihood is a function of the linear predictor `eta`, never of the code behind it. Every family
here is an exponential family with its canonical link, so that the score is the plain residual
``y - mean(eta)`` (Tolooshams et al., "Convolutional dictionary learning based auto-encoders for
natural exponential-family distributions", 2020, Table 1).

Normalisation: `nll` sums over the entries of a sample and returns one number a sample. Terms that
do not depend on `eta` are left out.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from calepin._random import randn
from calepin._samples import inner

__all__ = ["Gaussian", "Likelihood"]


class Likelihood(Protocol):
    """What a solver may ask of a family.

    All tensors are samples first: `eta` and `y` have shape (n, ...) and `nll` returns (n,).
    """

    @property
    def curvature(self) -> float | None:
        """A bound on the second derivative of `nll` in each entry of `eta`; None without one."""
        ...

    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        """Negative log-likelihood of each sample, shape (n,)."""
        ...

    def mean(self, eta: Tensor) -> Tensor:
        """Return the expectation of y: the inverse link of `eta`."""
        ...

    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        """Steepest descent direction of `nll` in `eta`: minus its derivative."""
        ...

    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw one observation, shape of `eta`."""
        ...

    def check(self, y: Tensor) -> None:
        """Raise ValueError, naming the first bad entry, if y cannot come from this family."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Observations with independent normal noise of unit variance, real or complex.

        nll(eta, y) = 0.5 * sum |y - eta|^2

    A noise level sigma other than one is a rescaled penalty, ``alpha * sigma**2``, and not a
    setting of this class. A complex entry has unit variance in its real and its imaginary part.
    """

    @property
    def curvature(self) -> float:
        """Return 1: `nll` is the square itself."""
        return 1.0

    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        """Half the squared distance of each sample to its mean, shape (n,)."""
        residual = y - eta
        return 0.5 * inner(residual, residual)

    def mean(self, eta: Tensor) -> Tensor:
        """Return `eta`: the link is the identity."""
        return eta

    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        """Return the residual y - eta."""
        return y - eta

    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return `eta` plus noise."""
        # torch's complex normal splits a unit variance between the two parts
        scale = 2**0.5 if eta.is_complex() else 1.0
        return eta + scale * randn(eta.shape, like=eta, generator=generator)

    def check(self, y: Tensor) -> None:
        """Raise ValueError unless every entry is finite."""
        _refuse(y, ~torch.isfinite(y), expected="finite values")


def _refuse(y: Tensor, bad: Tensor, *, expected: str) -> None:
    if bad.any():
        index = tuple(bad.nonzero()[0].tolist())
        raise ValueError(f"y: expected {expected}, got {y[index].item()} at index {index}")

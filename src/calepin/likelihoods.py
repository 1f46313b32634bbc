"""The distribution of an observation around its mean: the data term of every problem.

    y ~ family( mean = f^{-1}(eta) ),        eta = A(z) + offset

A likelihood is a function of the linear predictor `eta` and does not depend on the code. Every family
here is an exponential family with its canonical link, so that the score is the residual
``y - mean(eta)`` (Tolooshams et al., "Convolutional dictionary learning based auto-encoders for
natural exponential-family distributions", 2020, Table 1).

Normalisation: `nll` sums over the entries of a sample and returns one number per sample. Terms that
do not depend on `eta` are omitted.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import all_finite, check_tensor
from calepin.core.random import randn
from calepin.core.samples import inner, take_rows

__all__ = ["Binomial", "Gaussian", "Likelihood", "Poisson"]


class Likelihood(Protocol):
    """Interface of a likelihood.

    The first axis of all tensors is that of the samples: `eta` and `y` have shape (n, ...) and `nll` returns
    (n,). A family with separate parameters for each sample also has ``take(rows, ndim)``, as `Binomial` does.
    """

    @property
    def curvature(self) -> float | None:
        """Upper bound on the second derivative of `nll` in each entry of `eta`; None if it is unbounded."""
        ...

    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        """Negative log-likelihood of each sample, shape (n,)."""
        ...

    def mean(self, eta: Tensor) -> Tensor:
        """Return the expectation of y, the inverse link of `eta`."""
        ...

    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        """Return the steepest descent direction of `nll` in `eta`: minus its derivative."""
        ...

    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw observations, shape of `eta`."""
        ...

    def check(self, y: Tensor) -> None:
        """Raise ValueError, naming the first bad entry, if y cannot come from this family."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Observations with independent normal noise of unit variance, real or complex.

        nll(eta, y) = 0.5 * sum |y - eta|^2

    A noise level sigma other than one is not a setting of this class: rescale the weight of the penalty to
    ``alpha * sigma**2`` instead. A complex entry has unit variance in its real and its imaginary part.
    """

    @property
    def curvature(self) -> float:
        """Return 1, the second derivative of `nll`."""
        return 1.0

    @takes_tensors
    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        """Half the squared distance of each sample from its mean, shape (n,)."""
        check_tensor("eta", eta)
        check_tensor("y", y)
        residual = y - eta
        return 0.5 * inner(residual, residual)

    @takes_tensors
    def mean(self, eta: Tensor) -> Tensor:
        """Return `eta`: the link is the identity."""
        check_tensor("eta", eta)
        return eta

    @takes_tensors
    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        """Return the residual y - eta."""
        check_tensor("eta", eta)
        check_tensor("y", y)
        return y - eta

    @takes_tensors
    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return `eta` plus noise."""
        check_tensor("eta", eta)
        # torch's complex normal splits a unit variance between the two parts
        scale = 2**0.5 if eta.is_complex() else 1.0
        return eta + scale * randn(eta.shape, like=eta, generator=generator)

    def check(self, y: Tensor) -> None:
        """Raise ValueError unless every entry is finite."""
        if not all_finite(check_tensor("y", y)):
            _refuse(y, ~torch.isfinite(y), expected="finite values")


@dataclass(frozen=True)
class Binomial:
    """Numbers of successes, ``y ~ Binomial(trials, p)`` with the logit link ``p = 1 / (1 + exp(-eta))``.

        nll(eta, y) = sum trials * log(1 + exp(eta)) - y * eta

    No value of eta overflows: the score stays within ``[-trials, trials]``.

    Parameters
    ----------
    trials : int or Tensor, default 1
        Number of trials of every entry, at least 1 (Bernoulli). A tensor broadcasts against y: shape
        (n, 1, ...) for one number per sample, the shape of y for one number per entry.
    """

    trials: int | Tensor = 1

    def __post_init__(self) -> None:
        if not isinstance(self.trials, int | float):
            check_tensor("trials", self.trials)
        trials = torch.as_tensor(self.trials)
        if trials.is_complex() or trials.dtype == torch.bool or not trials.numel():
            raise ValueError(
                f"trials: expected whole numbers of at least 1, got {trials.dtype} of {tuple(trials.shape)}"
            )
        bad = ~((trials >= 1) & torch.isfinite(trials) & (trials == trials.round()))
        if bad.any():
            raise ValueError(
                f"trials: expected whole numbers of at least 1, got {trials[bad].flatten()[0].item()}"
            )

    @property
    def curvature(self) -> float:
        """Return a quarter of the largest number of trials: the variance at p = 1/2."""
        return float(torch.as_tensor(self.trials).max()) / 4

    @takes_tensors
    def take(self, rows: Tensor, ndim: int) -> "Binomial":
        """Return the family for some samples of a batch with `ndim` axes."""
        check_arguments(Binomial.take, {"rows": rows, "ndim": ndim})
        if not isinstance(self.trials, Tensor):
            return self
        return Binomial(take_rows(self.trials, rows, ndim))

    @takes_tensors
    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        """Negative log-likelihood of each sample without its binomial coefficients, shape (n,)."""
        check_tensor("eta", eta)
        check_tensor("y", y)
        return (self.trials * F.softplus(eta) - y * eta).flatten(1).sum(1)

    @takes_tensors
    def mean(self, eta: Tensor) -> Tensor:
        """Return ``trials * p``, the expected number of successes."""
        check_tensor("eta", eta)
        return self.trials * torch.sigmoid(eta)

    @takes_tensors
    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        """Return the residual ``y - trials * p``."""
        check_tensor("eta", eta)
        check_tensor("y", y)
        return y - self.mean(eta)

    @takes_tensors
    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw the number of successes of every entry."""
        check_tensor("eta", eta)
        device = eta.device if generator is None else generator.device
        trials = torch.as_tensor(self.trials, dtype=eta.dtype).expand(eta.shape)
        drawn = torch.binomial(trials.to(device), torch.sigmoid(eta).to(device), generator=generator)
        return drawn.to(eta.device)

    def check(self, y: Tensor) -> None:
        """Raise ValueError unless every entry is a whole number from 0 to its number of trials."""
        trials = torch.as_tensor(self.trials, device=check_tensor("y", y).device)
        try:
            fits = torch.broadcast_shapes(trials.shape, y.shape) == y.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"trials: expected a shape that broadcasts to that of y, {tuple(y.shape)}, "
                f"got {tuple(trials.shape)}"
            )
        _refuse_all_but_counts(y)
        most = int(trials.max())
        expected = f"at most the number of trials ({most}{' or fewer' * bool(trials.ndim)})"
        _refuse(y, y > trials, expected=expected)


@dataclass(frozen=True)
class Poisson:
    """Counts, ``y ~ Poisson(exp(eta))``: photons in a pixel, spikes in a bin.

        nll(eta, y) = sum exp(eta) - y * eta

    Its curvature exp(eta) is unbounded: solvers need backtracking, or a given step size. Rates are capped at
    a large finite number, so that a step that is too long gives a large objective and not NaN.
    """

    @property
    def curvature(self) -> None:
        """Return None: the second derivative, exp(eta), has no bound."""
        return None

    @takes_tensors
    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        """Negative log-likelihood of each sample without log(y!), shape (n,)."""
        check_tensor("eta", eta)
        check_tensor("y", y)
        return (self.mean(eta) - y * eta).flatten(1).sum(1)

    @takes_tensors
    def mean(self, eta: Tensor) -> Tensor:
        """Return the rate ``exp(eta)``."""
        check_tensor("eta", eta)
        # half of the exponent's range, so that sums and squares of rates are finite too
        return eta.clamp_max(0.5 * math.log(torch.finfo(eta.dtype).max)).exp()

    @takes_tensors
    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        """Return the residual ``y - exp(eta)``."""
        check_tensor("eta", eta)
        check_tensor("y", y)
        return y - self.mean(eta)

    @takes_tensors
    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw the counts of every entry."""
        check_tensor("eta", eta)
        device = eta.device if generator is None else generator.device
        return torch.poisson(self.mean(eta).to(device), generator=generator).to(eta.device)

    def check(self, y: Tensor) -> None:
        """Raise ValueError unless every entry is a whole number of at least 0."""
        check_tensor("y", y)
        _refuse_all_but_counts(y)


def _refuse_all_but_counts(y: Tensor) -> None:
    if check_tensor("y", y).is_complex() or y.dtype == torch.bool:
        raise ValueError(f"y: expected real counts, got {y.dtype}")
    _refuse(y, ~torch.isfinite(y), expected="finite counts")
    _refuse(y, y < 0, expected="counts of at least 0")
    _refuse(y, y != y.round(), expected="whole numbers (counts)")


def _refuse(y: Tensor, bad: Tensor, *, expected: str) -> None:
    if bad.any():
        index = tuple(bad.nonzero()[0].tolist())
        raise ValueError(f"y: expected {expected}, got {y[index].item()} at index {index}")

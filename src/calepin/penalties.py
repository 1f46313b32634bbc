"""Penalties on codes and their proximal maps.

A penalty g has two functions of a batch of codes (n, ...), samples on the first axis:

    value(z)      = g(z), one number per sample
    prox(v, step_size) = argmin_z 0.5 * ||v - z||^2 + step_size * g(z)

Parikh and Boyd, "Proximal algorithms", 2014, sections 1.1 and 6.5. The step size is a number, or a
tensor that broadcasts against v (shape (n, 1, ...) for one step size per sample).
"""

import math
import numbers
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from calepin.core.arguments import check_fields, takes_tensors
from calepin.core.checks import check_number, check_tensor

__all__ = ["L1", "ElasticNet", "GroupL1", "HardThreshold", "NonNegativeL1", "Penalty"]


class Penalty(Protocol):
    """Interface of a penalty."""

    def value(self, z: Tensor) -> Tensor:
        """Penalty of each sample, shape (n,)."""
        ...

    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        """Proximal map of ``step_size * value`` at v, shape of v."""
        ...


@dataclass(frozen=True)
class L1:
    """Sum of magnitudes: the lasso's penalty, ``g(z) = sum_i alpha_i |z_i|``.

    Its proximal map is the soft threshold at ``step_size * alpha``. Complex codes keep their phase.

    Parameters
    ----------
    alpha : float or Tensor
        Weight, at least zero. A tensor broadcasts against one code: shape (n_components,) for one weight per
        atom of a dense dictionary, (n_components, 1, 1) for a two-dimensional convolutional one.
    """

    alpha: float | Tensor

    def __post_init__(self) -> None:
        _check_nonnegative("alpha", self.alpha)
        check_fields(self)

    @takes_tensors
    def value(self, z: Tensor) -> Tensor:
        """Weighted sum of magnitudes, shape (n,)."""
        check_tensor("z", z)
        return (self.alpha * z.abs()).flatten(1).sum(1)

    @takes_tensors
    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        """Soft threshold at ``step_size * alpha``."""
        check_tensor("v", v)
        threshold = step_size * self.alpha
        if v.is_complex():
            return v * _shrinkage(v.abs(), threshold)
        if not isinstance(threshold, Tensor):
            return F.softshrink(v, threshold)  # one pass forward and one backward
        # v minus its projection on [-threshold, threshold]: exact zeros, and one pass fewer than with signs
        return v - v.clamp(-threshold, threshold)


@dataclass(frozen=True)
class NonNegativeL1:
    """Sum of nonnegative entries: ``g(z) = sum_i alpha_i z_i``, infinite if any z_i < 0.

    Its proximal map is a ReLU with a bias, ``max(v - step_size * alpha, 0)``.

    Parameters
    ----------
    alpha : float or Tensor
        Weight, at least zero; a tensor broadcasts against one code, as in `L1`.
    """

    alpha: float | Tensor

    def __post_init__(self) -> None:
        _check_nonnegative("alpha", self.alpha)
        check_fields(self)

    @takes_tensors
    def value(self, z: Tensor) -> Tensor:
        """Weighted sum, infinite for a sample with a negative entry, shape (n,)."""
        check_tensor("z", z)
        total = (self.alpha * z).flatten(1).sum(1)
        return total.masked_fill((z < 0).flatten(1).any(1), math.inf)

    @takes_tensors
    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        """One-sided soft threshold at ``step_size * alpha``."""
        check_tensor("v", v)
        return (v - step_size * self.alpha).relu()


@dataclass(frozen=True)
class ElasticNet:
    """The l1 norm and half the squared norm: ``g(z) = sum_i alpha |z_i| + ridge / 2 * z_i^2``.

    Similar atoms share an amplitude, of which the l1 norm alone gives all to one (Zou and Hastie,
    "Regularization and variable selection via the elastic net", 2005). Its proximal map is the soft threshold
    at ``step_size * alpha``, divided by ``1 + step_size * ridge``.

    Parameters
    ----------
    alpha : float
        Weight of the l1 norm, at least zero.
    ridge : float
        Weight of half the squared norm, at least zero.
    nonnegative : bool, default False
        Whether the penalty of negative entries is infinite.
    """

    alpha: float
    ridge: float
    nonnegative: bool = False

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, least=0)
        check_number("ridge", self.ridge, least=0)
        check_fields(self)

    @takes_tensors
    def value(self, z: Tensor) -> Tensor:
        """Weighted sum of magnitudes and squares, shape (n,)."""
        return self._l1.value(z) + 0.5 * self.ridge * z.abs().square().flatten(1).sum(1)

    @takes_tensors
    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        """Soft threshold at ``step_size * alpha``, shrunken by the ridge."""
        return self._l1.prox(v, step_size) / (1 + step_size * self.ridge)

    @property
    def _l1(self) -> "L1 | NonNegativeL1":
        return (NonNegativeL1 if self.nonnegative else L1)(self.alpha)


@dataclass(frozen=True)
class HardThreshold:
    """Hard threshold HT_b: keeps entries of magnitude above b and sets the others to zero, at any step size.

        prox(v, step_size) = argmin_z 0.5 * ||v - z||^2 + value(z),    value(z) = b^2 / 2 * ||z||_0

    Unlike for the other penalties, the threshold does not depend on the step size. A proximal gradient method
    with step size s therefore lowers ``nll(z) + value(z) / s``, and `value` is its penalty only for s = 1.
    (The proximal map of a fixed penalty would have the threshold ``b * sqrt(s)``.)

    Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022; the map is that
    of Blumensath and Davies, "Iterative thresholding for sparse approximations", 2008, eq. 2.2.

    Parameters
    ----------
    threshold : float or Tensor
        Threshold b, at least zero; a tensor broadcasts against one code, as in `L1`.
    nonnegative : bool, default False
        Whether negative entries are set to zero too; their penalty is infinite.
    """

    threshold: float | Tensor
    nonnegative: bool = False

    def __post_init__(self) -> None:
        _check_nonnegative("threshold", self.threshold)
        check_fields(self)

    @takes_tensors
    def value(self, z: Tensor) -> Tensor:
        """``b^2 / 2`` for each nonzero entry, shape (n,)."""
        check_tensor("z", z)
        total = (0.5 * self.threshold**2 * (z != 0).to(z.abs().dtype)).flatten(1).sum(1)
        return total.masked_fill((z < 0).flatten(1).any(1), math.inf) if self.nonnegative else total

    @takes_tensors
    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        """Hard threshold at b; `step_size` is not used."""
        check_tensor("v", v)
        # every comparison is False for NaN: NaN is kept, and reported by the caller
        if not isinstance(self.threshold, Tensor) and not v.is_complex():  # one pass, and one backward
            return F.threshold(v, self.threshold, 0) if self.nonnegative else F.hardshrink(v, self.threshold)
        return v.masked_fill((v if self.nonnegative else v.abs()) <= self.threshold, 0)


@dataclass(frozen=True)
class GroupL1:
    """Sum of the norms of groups of atoms: ``g(z) = sum_j alpha_j ||z_j||_2``.

    Groups are consecutive runs of `group_size` entries along axis 1, the axis of the atoms; a
    convolutional code has one group per position. Its proximal map shrinks each group towards zero
    as a whole (Yuan and Lin, "Model selection and estimation in regression with grouped variables",
    2006).

    Parameters
    ----------
    alpha : float or Tensor
        Weight, at least zero. A tensor broadcasts against the group norms of one code, (n_groups,).
    group_size : int
        Number of atoms in a group; it divides the number of atoms.
    """

    alpha: float | Tensor
    group_size: int

    def __post_init__(self) -> None:
        _check_nonnegative("alpha", self.alpha)
        check_fields(self)
        if not isinstance(self.group_size, numbers.Integral) or self.group_size < 1:
            raise ValueError(f"group_size: expected a positive integer, got {self.group_size!r}")

    @takes_tensors
    def value(self, z: Tensor) -> Tensor:
        """Weighted sum of group norms, shape (n,)."""
        check_tensor("z", z)
        return (self.alpha * self._norms(self._split(z))).flatten(1).sum(1)

    @takes_tensors
    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        """Block soft threshold at ``step_size * alpha``."""
        check_tensor("v", v)
        groups = self._split(v)
        shrinkage = _shrinkage(self._norms(groups), step_size * self.alpha)
        return (groups * shrinkage.unsqueeze(2)).flatten(1, 2)

    def _split(self, z: Tensor) -> Tensor:
        """(n, n_groups * group_size, ...) -> (n, n_groups, group_size, ...)."""
        if z.shape[1] % self.group_size:
            raise ValueError(
                f"group_size: expected a divisor of the {z.shape[1]} atoms, got {self.group_size}"
            )
        return z.unflatten(1, (-1, self.group_size))

    def _norms(self, groups: Tensor) -> Tensor:
        return torch.linalg.vector_norm(groups, dim=2)


def _shrinkage(norm: Tensor, threshold: float | Tensor) -> Tensor:
    """Return the factor in [0, 1] that shortens a vector of length `norm` by `threshold`."""
    return (norm - threshold).relu() / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def _check_nonnegative(name: str, weight: float | Tensor) -> None:
    expected = f"{name}: expected a finite number, or a real tensor of them, of at least 0"
    if hasattr(weight, "__array__") and not isinstance(weight, numbers.Number):
        check_tensor(name, weight)
    if isinstance(weight, Tensor) and not weight.is_complex():
        bad = ~((weight >= 0) & torch.isfinite(weight))
        if bad.any():
            raise ValueError(f"{expected}, got {weight[bad][0].item()}")
    elif not isinstance(weight, numbers.Real) or not 0 <= weight < math.inf:
        raise ValueError(f"{expected}, got {weight!r}")

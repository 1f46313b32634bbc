"""Unfolded sparse coding, and back-propagation through it, in the time that sparse codes take.

For Gaussian samples y and a dense dictionary D, layer t of T computes

    z_{t+1} = prox(u_t),        u_t = z_t - s (z_t G - y D^T),        G = D D^T.

With mu_t the gradient of a loss in u_t, which is zero wherever z_{t+1} is, back-propagation needs ``mu_t G``
on the atoms in use, and leads to the gradients

    d loss / d D = - s ((M + M^T) D - (sum_t mu_t)^T y),        M = sum_t z_t^T mu_t,
    d loss / d y =   s (sum_t mu_t) D.

So no layer multiplies by the dictionary, forwards or backwards: beside sums over supports there are one
product for G and one for the gradient, whatever the number of layers. Codes and gradients are those of
automatic differentiation, up to rounding. The first layers, whose codes are not sparse, are dense products.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.checks import is_plain
from calepin.core.compiled import padded
from calepin.core.gradients import differentiable_once
from calepin.core.threads import run_blocks
from calepin.likelihoods import Gaussian
from calepin.operators.dense import Dense
from calepin.penalties import L1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers.iterate import RUNAWAY
from calepin.solvers.kernels.layers import Layers, run_layers
from calepin.solvers.kernels.support import CUT, CUT_POSITIVE, SHRINK, SHRINK_POSITIVE
from calepin.solvers.proximal import IHT, ISTA
from calepin.solvers.solve import solve

__all__ = ["sparse_layers"]

_LEAST = 5e7  # products of dense layers, below which there is no time to save
_FASTER = 64  # products of dense layers in the time of one on supports, with all that is around it
_EVERY = 2  # first layers after which codes may be sparse
_PILOT = 8  # samples that show how sparse codes are, and least number in a block
_BLOCKS = 8  # of samples, each with its own sum M
_ENTRIES = 2**26  # of all these sums at most
_ROWS = 256  # of a product that are computed together


def sparse_layers(problem: Problem, solver: Any, n_iter: int) -> Tensor | None:
    """Return the codes after `n_iter` iterations from zero, differentiable once in y and the atoms, or None.

    None says that the problem or the solver is another one, that more is to be differentiated, that codes are
    not sparse enough for this to be faster, or that they diverge: then `calepin.solve` has to do it.
    """
    if not _is_known(problem, solver):
        return None
    n_dense = _first_sparse(problem, solver, n_iter)
    if n_dense is None:
        return None
    how = "unroll" if torch.is_grad_enabled() else "none"
    begun = solve(problem, solver, n_iter=n_dense, differentiate=how).z
    unfolded = _Unfolded.of(problem, solver, n_dense, n_iter)
    codes = None if unfolded is None else unfolded.codes(begun.detach().numpy())
    if codes is None:
        return None
    assert isinstance(problem.operator, Dense)
    return _Codes.apply(problem.y, problem.operator.atoms, begun, codes, unfolded)  # pyright: ignore[reportReturnType]


class _Codes(torch.autograd.Function):
    """Codes that are known, and the way back from them."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, atoms: Tensor, begun: Tensor, codes: np.ndarray, unfolded: "_Unfolded"
    ) -> Tensor:
        ctx.unfolded = unfolded
        ctx.save_for_backward(y, atoms, begun)
        return torch.from_numpy(codes)

    @staticmethod
    @differentiable_once("calepin.solve(..., differentiate='unroll')")
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        *_, begun = ctx.saved_tensors  # raises if y or the atoms have been changed in place
        return *map(torch.from_numpy, ctx.unfolded.gradients(begun.numpy(), grad.numpy())), None, None


@dataclass(frozen=True, eq=False)
class _Unfolded:
    """Samples y (n, m), atoms (p, m), their products (n, p) and the layers; there, p is padded by zeros."""

    y: np.ndarray
    atoms: np.ndarray
    targets: np.ndarray
    layers: Layers

    @classmethod
    def of(cls, problem: Problem, solver: Any, first: int, n_iter: int) -> "_Unfolded | None":
        """Return the layers from `first` on; None if numbers are not finite, too large or too small."""
        assert isinstance(problem.operator, Dense)
        y = (problem.y - problem.offset).detach().numpy()
        atoms = problem.operator.atoms.detach().numpy()
        real, used, p = y.dtype.type, len(atoms), padded(len(atoms))
        step = float(solver.first_step(problem, problem.zeros()))
        kind, bound = _proximal_map(solver.penalty, problem.y, step)
        bounds = np.full(p, np.inf, real)
        bounds[:used] = bound.numpy()
        gram, targets = np.zeros((p, p), real), np.zeros((len(y), p), real)
        gram[:used, :used], targets[:, :used] = _product(atoms, atoms.T), _product(y, atoms.T)
        if not all(np.isfinite(values).all() for values in (gram, targets, bounds[:used])):
            return None
        factors = (solver.decay ** np.arange(first, n_iter)).astype(real)
        info = np.finfo(real)
        greatest, weakest = np.abs(targets).max(), bounds[:used].max() * factors[-1]
        if greatest > np.sqrt(info.max / p) or weakest < np.sqrt(info.tiny) / info.eps:
            return None  # squares overflow, or those of changes that matter underflow
        rounding = 100 * info.eps * greatest
        longest = 1.001 * np.sqrt(gram.diagonal().max())
        numbers = map(real, (bounds[:used].max(), longest, rounding))
        return cls(y, atoms, targets, Layers(gram, bounds, factors, real(step), kind, *numbers))

    def codes(self, begun: np.ndarray) -> np.ndarray | None:
        """Return the codes after the layers; None if they diverge.

        As in `calepin.solvers.iterate.ran_away`, a step that is much longer than the first is a divergence.
        """
        codes, moved = self._padded(begun), np.zeros(len(begun), begun.dtype)
        none = codes[:0]

        def ascend(start: int, stop: int) -> None:
            rows = slice(start, stop)
            run_layers(self.targets[rows], self.layers, codes[rows], moved[rows], none, none, none)

        run_blocks(ascend, len(codes), self._block())
        first = self.layers.step * np.linalg.norm(self.targets, axis=1)
        stays = np.isfinite(codes).all() and (np.sqrt(moved) <= RUNAWAY * first).all()
        return np.ascontiguousarray(codes[:, : len(self.atoms)]) if stays else None

    def gradients(self, begun: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the gradients in y, atoms and the codes before of a loss with these in the codes after."""
        used, p = len(self.atoms), self.targets.shape[1]
        codes, back, sums = self._padded(begun), self._padded(upper), np.zeros_like(self.targets)

        def descend(start: int, stop: int) -> np.ndarray:
            rows, pairs = slice(start, stop), np.zeros((p, p), codes.dtype)
            moved = np.zeros(stop - start, codes.dtype)
            run_layers(self.targets[rows], self.layers, codes[rows], moved, back[rows], pairs, sums[rows])
            return pairs[:used, :used]

        pairs: Any = sum(run_blocks(descend, len(codes), self._block()))
        sums, step = sums[:, :used], self.layers.step
        for_atoms = step * (_product(sums.T, self.y) - _product(pairs + pairs.T, self.atoms))
        return step * _product(sums, self.atoms), for_atoms, np.ascontiguousarray(back[:, :used])

    def _padded(self, values: np.ndarray) -> np.ndarray:
        wide = np.zeros_like(self.targets)
        wide[:, : values.shape[1]] = values
        return wide

    def _block(self) -> int:
        n_blocks = min(_BLOCKS, max(1, _ENTRIES // self.targets.shape[1] ** 2))
        return max(_PILOT, -(-len(self.y) // n_blocks))


def _is_known(problem: Problem, solver: Any) -> bool:
    """Return whether these are layers of real atoms on the CPU, with y and atoms alone to differentiate."""
    y, penalty = problem.y, solver.penalty
    kinds = type(problem.operator), type(problem.likelihood), type(solver)
    if kinds not in ((Dense, Gaussian, ISTA), (Dense, Gaussian, IHT)) or isinstance(solver.step_size, str):
        return False
    assert isinstance(problem.operator, Dense)
    if not is_plain(y, problem.operator.atoms):
        return False
    if type(penalty) not in (L1, NonNegativeL1, HardThreshold):
        return False
    weights = penalty.threshold if isinstance(penalty, HardThreshold) else penalty.alpha
    if isinstance(weights, Tensor) and weights.ndim > 1:  # those of each sample
        return False
    constants = (weights, solver.step_size, problem.offset)
    return not any(isinstance(values, Tensor) and values.requires_grad for values in constants)


def _first_sparse(problem: Problem, solver: Any, n_iter: int) -> int | None:
    """Return the number of layers after which supports are faster than dense products, or None."""
    assert isinstance(problem.operator, Dense)
    n, size, p = len(problem.y), problem.operator.atoms.numel(), problem.operator.in_shape[0]
    some = problem.take(torch.linspace(0, n - 1, min(n, _PILOT)).long())
    with torch.no_grad():
        state = solver.init(some, some.zeros())
        for done in range(n_iter):
            left = n * (n_iter - done)
            if left * size < _LEAST or left < 2 * p:  # the Gram matrix takes as long as dense layers
                return None
            used = (state.z != 0).sum(1).double()
            if done and done % _EVERY == 0 and _FASTER * float(used.square().mean()) < 2 * size:
                return done
            state = solver.step(some, state)
    return None


def _proximal_map(penalty: Any, like: Tensor, step: float) -> tuple[int, Tensor]:
    """Return the map of a penalty, and the bounds of gradients within which a code stays at zero."""
    if isinstance(penalty, HardThreshold):
        kind = CUT_POSITIVE if penalty.nonnegative else CUT
        return kind, torch.as_tensor(penalty.threshold, dtype=like.dtype) / step
    kind = SHRINK if isinstance(penalty, L1) else SHRINK_POSITIVE
    return kind, torch.as_tensor(penalty.alpha, dtype=like.dtype)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b, in blocks of rows."""
    out = np.empty((len(a), b.shape[1]), b.dtype)
    run_blocks(lambda start, stop: np.matmul(a[start:stop], b, out=out[start:stop]), len(a), _ROWS)
    return out

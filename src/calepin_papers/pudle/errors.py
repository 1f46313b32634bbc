"""How fast an unfolded encoder, its Jacobian and the gradients through it converge.

The subjects of Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022:
codes z_t and Jacobians J_t = d z_t / d D against the lasso's (theorems 3.1 and 3.2), and the gradients
dec, ae-lasso and ae-ls against a desired one (theorems 3.3 and 3.4). The desired ones are all
`decoder_gradient`, at the codes

    g_hat    of the lasso with the atoms at hand        the direction of alternating minimisation
    g_star   of the lasso with its optimal atoms
    g_tilde  that made the data
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from calepin.learning import dictionary_gradient
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import L1, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers import ISTA, GradientRule, UnfoldedSolver, solve

__all__ = [
    "UnfoldingErrors",
    "code_jacobian",
    "decoder_gradient",
    "gradient_errors",
    "unfolded_jacobians",
    "unfolding_errors",
]

PART = 250  # samples at a time: their layers, which the backward pass needs, take a gigabyte at most


@dataclass(frozen=True)
class UnfoldingErrors:
    """Distances of an unfolded encoder to its limit, one row for each number of layers.

    Attributes
    ----------
    code : array, shape (n_layers, n)
        ``||z_t - z_hat||_2``.
    jacobian : array, shape (n_layers, n)
        ``||J_t - J_hat||_F``.
    support : bool array, shape (n_layers, n)
        Whether z_t has the support of z_hat.
    """

    code: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    support: NDArray[np.bool_]


def unfolding_errors(
    y: ArrayLike,
    atoms: ArrayLike,
    *,
    penalty: L1 | NonNegativeL1,
    layers: Sequence[int],
    step_size: float | None = None,
) -> UnfoldingErrors:
    """Measure codes and Jacobians of an unfolded ISTA against the exact ones of the lasso, in float64.

    Parameters
    ----------
    y : array of shape (n, n_features)
    atoms : array of shape (n_components, n_features)
    penalty : L1 or NonNegativeL1
        With positive weights.
    layers : sequence of int
        Numbers of layers t, in ascending order.
    step_size : float, optional
        Of the layers, 1 / L by default.
    """
    samples, leaf = (torch.tensor(np.asarray(a), dtype=torch.float64) for a in (y, atoms))
    leaf.requires_grad_()
    solver = ISTA(penalty, step_size)
    errors: list[list[tuple[float, float, bool]]] = [[] for _ in layers]
    for sample in samples.split(1):
        problem = Problem(Dense(leaf), Gaussian(), sample)
        limit = solve(problem, solver, n_iter=1, differentiate="implicit").z
        wanted = code_jacobian(limit, leaf)
        found = unfolded_jacobians(problem, solver, layers)
        for row, (z, jacobian) in zip(errors, found, strict=True):
            code = float((z - limit).detach().norm())
            same = bool(((z != 0) == (limit != 0)).all())
            row.append((code, _distance(jacobian, wanted), same))
    code, jacobian, support = np.moveaxis(np.array(errors, dtype=np.float64), 2, 0)
    return UnfoldingErrors(code, jacobian, support.astype(bool))


def gradient_errors(
    y: ArrayLike,
    atoms: ArrayLike,
    reference: ArrayLike,
    *,
    penalty: Penalty,
    layers: Sequence[int],
    step_size: float | None = None,
    solver: UnfoldedSolver = "ista",
) -> dict[GradientRule, NDArray[np.float64]]:
    """Return the distance ``||g_t - g||_F`` of each kind of gradient for each number of layers, in float64.

    Parameters
    ----------
    y : array of shape (n, n_features)
    atoms : array of shape (n_components, n_features)
    reference : array, shape of `atoms`
        The desired gradient g: `decoder_gradient` at the codes that count as right.
    penalty, step_size, solver
        See `calepin.learning.dictionary_gradient`.
    layers : sequence of int
        Numbers of layers t.

    Raises
    ------
    ValueError
        A reference of another shape than the atoms.
    """
    samples, rows, wanted = (np.asarray(a, np.float64) for a in (y, atoms, reference))
    if wanted.shape != rows.shape:
        raise ValueError(f"reference: expected the shape of atoms, {rows.shape}, got {wanted.shape}")
    parts = np.array_split(samples, -(-len(samples) // PART))

    def error(gradient: GradientRule, t: int) -> float:
        found = (
            dictionary_gradient(
                part, rows, penalty=penalty, n_unfold=t, step_size=step_size, gradient=gradient, solver=solver
            )
            * (len(part) / len(samples))
            for part in parts
        )
        return float(np.linalg.norm(sum(found) - wanted))

    return {kind: np.array([error(kind, int(t)) for t in layers]) for kind in get_args(GradientRule)}


def decoder_gradient(y: ArrayLike, codes: ArrayLike, atoms: ArrayLike) -> NDArray[np.float64]:
    """Return ``z^T (z D - y) / n``: the gradient of the mean loss in the atoms, codes held fixed.

    Parameters
    ----------
    y : array of shape (n, n_features)
    codes : array of shape (n, n_components)
    atoms : array of shape (n_components, n_features)
    """
    y, codes, atoms = (np.asarray(a, np.float64) for a in (y, codes, atoms))
    return codes.T @ (codes @ atoms - y) / len(y)


def code_jacobian(z: Tensor, atoms: Tensor) -> dict[int, Tensor]:
    """Return the gradient in the atoms (p, m) of each entry of a code (1, p) that is not zero.

    The others are zero around the atoms too.
    """
    support = z.detach()[0].nonzero().flatten().tolist()
    return {j: torch.autograd.grad(z[0, j], atoms, retain_graph=True)[0] for j in support}


@torch.no_grad()
def unfolded_jacobians(
    problem: Problem, solver: ISTA, layers: Sequence[int]
) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """Yield the code (1, p) of a sample after some numbers of layers, ascending, and its `code_jacobian`.

    The Jacobians of one layer follow from those of the one before, so that all take one pass. Where u is what
    the soft threshold takes, and r the residual ``z D - y``,

        d u_j = d z_j - s sum_l G_jl d z_l - s (z_i D_j, and r for i = j), in atom i.

    Only the rows of the next support are computed: the threshold's derivative is zero elsewhere.
    """
    assert isinstance(problem.operator, Dense)
    atoms = problem.operator.atoms.detach()
    gram = atoms @ atoms.mT
    state = solver.init(problem, problem.zeros())
    support, rows = torch.zeros(0, dtype=torch.long), atoms.new_zeros(0, *atoms.shape)
    for t in range(1, max(layers) + 1):
        z, step = state.z, state.step_size
        residual = (z @ atoms - problem.y)[0]
        state = solver.step(problem, state)
        after = state.z[0].nonzero().flatten()
        weights = (after[:, None] == support).to(gram) - step * gram[after][:, support]
        rows = (weights @ rows.flatten(1)).view(-1, *atoms.shape)
        rows[:, support] -= step * z[0, support, None] * atoms[after, None]
        rows[torch.arange(len(after)), after] -= step * residual
        support = after
        if t in layers:
            yield state.z, dict(zip(support.tolist(), rows, strict=True))


def _distance(one: dict[int, Tensor], other: dict[int, Tensor]) -> float:
    zero = torch.zeros(())
    squares = [(one.get(j, zero) - other.get(j, zero)).square().sum() for j in one.keys() | other.keys()]
    return float(sum(squares, start=zero).sqrt())

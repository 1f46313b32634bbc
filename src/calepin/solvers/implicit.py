"""The gradient of infinitely many unfolded iterations of the lasso, without storing any of them.

The lasso's solution with support S and signs s solves ``G z_S = D_S y - alpha_S s``, where D_S are the
support's atoms and ``G = D_S D_S^T``. Support and signs are locally constant, so for a loss whose
gradient in the code is v, with ``G u_S = v_S`` and u zero elsewhere,

    d loss / d y     = u D
    d loss / d alpha = - s u
    d loss / d D     = u^T (y - z D) - z^T (u D),        summed over samples.

One batched Cholesky solve replaces back-propagation. Sources: Bertrand et al., "Implicit differentiation of
Lasso-type models", 2020, proposition 1; Tolooshams and Ba, "Stable and interpretable unrolled
dictionary learning", 2022, theorem 3.2 (the limit of the Jacobians).
"""

from typing import Any

import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.core.gradients import differentiable_once
from calepin.likelihoods import Gaussian
from calepin.operators.dense import Dense
from calepin.penalties import L1, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers.kernels.encode import DenseTerms, lasso_codes

__all__ = ["implicit_codes"]

# relative duality gap of the few samples for which the homotopy fails
_TOL = {torch.float32: 1e-7, torch.float64: 1e-12}


def implicit_codes(problem: Problem, solver: Any) -> Tensor:
    """Return the exact lasso codes of a problem, differentiable like the limit of the solver.

    Parameters
    ----------
    problem : Problem
        Real problem in float32 or float64, with a Gaussian likelihood and a Dense operator.
    solver : Solver
        Solver of which only the `penalty` is used: L1 or NonNegativeL1 with positive weights. The limit of a
        convergent solver does not depend on its start and its step sizes.

    Returns
    -------
    Tensor, shape (n, n_components)
        Codes, differentiable once in y, the atoms, the offset, and alpha if it is a tensor.

    Raises
    ------
    IncompatibleError
        If the likelihood, operator, penalty or dtype is another one, or the penalty decays.
    ValueError
        If a weight is not positive, or the atoms of a support are linearly dependent, where the code is
        not differentiable.
    """
    penalty = getattr(solver, "penalty", None)
    _check(problem, solver, penalty)
    assert isinstance(problem.operator, Dense)
    assert isinstance(penalty, L1 | NonNegativeL1)
    atoms, y = problem.operator.atoms, problem.y - problem.offset
    alpha = torch.as_tensor(penalty.alpha, dtype=y.dtype, device=y.device)
    if not (alpha > 0).all():
        raise ValueError(f"alpha: expected positive weights for 'implicit', got {alpha.min().item():g}")
    if alpha.numel() > 1:
        alpha = alpha.expand(len(atoms))
    nonnegative = isinstance(penalty, NonNegativeL1)
    return _LassoCodes.apply(y, atoms, alpha, nonnegative)  # pyright: ignore[reportReturnType]


def _check(problem: Problem, solver: Any, penalty: Any) -> None:
    needs = {
        "a Gaussian likelihood": (problem.likelihood, Gaussian),
        "a Dense operator": (problem.operator, Dense),
        "an L1 or NonNegativeL1 penalty": (penalty, (L1, NonNegativeL1)),
    }
    for need, (term, kinds) in needs.items():
        if not isinstance(term, kinds):
            name = type(solver if term is None else term).__name__
            raise IncompatibleError(
                f"differentiate='implicit' needs {need}, got {name}; 'unroll' and 'last-k' do not"
            )
    if problem.y.dtype not in _TOL:
        raise IncompatibleError(
            f"differentiate='implicit' needs float32 or float64, got {problem.y.dtype}; "
            "'unroll' and 'last-k' do not"
        )
    if getattr(solver, "decay", 1.0) != 1:
        raise IncompatibleError(
            f"differentiate='implicit' needs a penalty that does not decay, got {type(solver).__name__} with "
            f"decay = {solver.decay}, whose limit has no penalty; 'unroll' and 'last-k' do not"
        )


class _LassoCodes(torch.autograd.Function):
    """Exact codes in the forward pass; one solve per support Gram matrix in the backward pass."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, atoms: Tensor, alpha: Tensor, nonnegative: bool) -> Tensor:
        z = _exact_codes(y, atoms, alpha, nonnegative)
        ctx.save_for_backward(y, atoms, z, alpha)
        ctx.alpha_shape = alpha.shape
        return z

    @staticmethod
    @differentiable_once("calepin.solve(..., differentiate='unroll')")
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        y, atoms, z, _ = ctx.saved_tensors
        u = _solve_on_support(z, atoms, grad)
        seen = u @ atoms
        for_y, for_atoms, for_alpha, _ = ctx.needs_input_grad
        grad_atoms = u.mT @ (y - z @ atoms) - z.mT @ seen if for_atoms else None
        grad_alpha = -(z.sign() * u).sum(0).sum_to_size(ctx.alpha_shape) if for_alpha else None
        return seen if for_y else None, grad_atoms, grad_alpha, None


def _exact_codes(y: Tensor, atoms: Tensor, alpha: Tensor, nonnegative: bool) -> Tensor:
    y, atoms, alpha = y.detach(), atoms.detach(), alpha.detach()
    if alpha.numel() == 1:
        return _lasso(y, atoms, float(alpha), nonnegative)
    # for the rescaled codes alpha_j z_j every weight is one
    return _lasso(y, atoms / alpha[:, None], 1.0, nonnegative) / alpha


def _lasso(y: Tensor, atoms: Tensor, alpha: float, nonnegative: bool) -> Tensor:
    terms = DenseTerms(y, atoms)
    codes = lasso_codes(terms, alpha, tol=_TOL[y.dtype], nonnegative=nonnegative, certify=False).values
    return codes if isinstance(codes, Tensor) else torch.from_numpy(codes.toarray())


def _solve_on_support(z: Tensor, atoms: Tensor, v: Tensor) -> Tensor:
    """Return u with ``G u_S = v_S`` for the Gram matrix G of each sample's support, zero elsewhere."""
    sample, atom = z.nonzero(as_tuple=True)
    u = torch.zeros_like(z)
    if not len(sample):
        return u
    counts = torch.bincount(sample, minlength=len(z))
    place = torch.arange(len(sample), device=z.device) - (counts.cumsum(0) - counts)[sample]
    k = int(counts.max())
    support = atom.new_zeros(len(z), k).index_put((sample, place), atom)
    rhs = v.new_zeros(len(z), k).index_put((sample, place), v[sample, atom])
    used = torch.arange(k, device=z.device) < counts[:, None]
    factor, info = torch.linalg.cholesky_ex(_support_gram(atoms, support, used))
    if info.any():
        raise ValueError(
            "atoms: expected linearly independent atoms in every support, "
            f"got dependent ones in that of sample {int(info.nonzero()[0])}"
        )
    solved = torch.cholesky_solve(rhs.unsqueeze(2), factor).squeeze(2)
    return u.index_put((sample, atom), solved[sample, place])


def _support_gram(atoms: Tensor, support: Tensor, used: Tensor) -> Tensor:
    """Return Gram matrices (n, k, k) of the supports, with ones on the diagonal of unused entries."""
    n, k = support.shape
    if n * k * k < len(atoms) ** 2:  # fewer products than in the Gram matrix of all atoms
        chosen = atoms[support] * used.unsqueeze(2)
        gram = chosen @ chosen.mT
    else:
        pairs = support.unsqueeze(2) * len(atoms) + support.unsqueeze(1)
        gram = (atoms @ atoms.mT).flatten()[pairs] * (used.unsqueeze(2) & used.unsqueeze(1))
    gram.diagonal(dim1=1, dim2=2).add_((~used).to(gram.dtype))
    return gram

"""Greedy pursuits for batches of tensors on any device, with the rules of the compiled coders.

All samples add one atom at a time, with the orthogonalised rows of `pursuit`. Nonnegative codes are refitted
on each support in float64 (Lawson and Hanson 1974). Finished samples are not changed any more.
"""

import torch
from torch import Tensor

from calepin.solvers.kernels.torch_support import (
    gather_support,
    sample_blocks,
    scatter_support,
    solve_support,
    support_gram,
)

__all__ = ["batched_pursuit"]


def batched_pursuit(
    X: Tensor,
    atoms: Tensor,
    *,
    n_nonzero: int | None = None,
    tol=None,
    selection: str = "omp",
    nonnegative: bool = False,
    mask: Tensor | None = None,
) -> tuple[Tensor, None, Tensor, int]:
    """Return codes, None, squared residual norms and the number of samples coded again in float64.

    X (n, m) holds zeros where `mask` (n, m) is False; atoms (p, m). float32 or float64. tol: array of
    squared residual norms (n,).
    """
    limit = min(*atoms.shape, n_nonzero or len(atoms))
    goals = torch.full((len(X),), -1.0, dtype=torch.float64)
    if tol is not None:
        goals = torch.as_tensor(tol, dtype=torch.float64)
    goals = goals.to(X.device)
    choose = _choose_nonnegative if nonnegative else _choose
    orthogonal = selection == "ols"

    def encode(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        observed = None if mask is None else mask[rows]
        D, x = atoms.to(dtype), X[rows].to(dtype)
        energy = X[rows].double().square().sum(1)
        slack = 1e-13 if dtype == torch.float64 else torch.finfo(dtype).eps
        codes = choose(x, D, observed, goals[rows] - slack * energy, limit, orthogonal).to(X.dtype)
        rest = X[rows].double() - codes.double() @ atoms.double()
        rest = rest if observed is None else rest * observed
        return codes, rest.square().sum(1)

    codes = X.new_zeros(len(X), len(atoms))
    residual = X.new_zeros(len(X), dtype=torch.float64)
    everyone = torch.arange(len(X), device=X.device)
    blocks = [everyone[rows] for rows in sample_blocks(len(X), *atoms.shape)]
    for rows in blocks:
        codes[rows], residual[rows] = encode(rows, torch.float64 if nonnegative else X.dtype)
    if X.dtype == torch.float64 or nonnegative:
        return codes, None, residual, 0
    short = (residual > goals) & (goals > 0) & ((codes != 0).sum(1) < (n_nonzero or len(atoms)))
    for rows in blocks:
        again = rows[short[rows]]
        if len(again):
            codes[again], residual[again] = encode(again, torch.float64)
    return codes, None, residual, int(short.sum())


def _norms(atoms: Tensor, mask: Tensor | None, n_samples: int) -> Tensor:
    squares = atoms.square()
    if mask is None:
        return squares.sum(1).expand(n_samples, -1)
    return mask.to(atoms.dtype) @ squares.T


def _choose(X, atoms, mask, goals, limit: int, orthogonal: bool) -> Tensor:
    """Return codes with the atoms that OMP or OLS selects."""
    scale = X.abs().amax(1, keepdim=True).clamp_min(torch.finfo(X.dtype).tiny)
    X, goals = X / scale, goals / scale.squeeze(1).double().square()
    n, everyone = len(X), torch.arange(len(X), device=X.device)
    norms = _norms(atoms, mask, n)
    outside = torch.where(norms > 0, norms, torch.inf)
    c = X @ atoms.T
    small = 64 * torch.finfo(X.dtype).eps
    noise = small**2 * X.square().sum(1)
    energy = X.double().square().sum(1)
    count = torch.zeros(n, dtype=torch.long, device=X.device)
    active = energy > goals
    rows, chosen, betas, coordinates = [], [], [], []
    while active.any():
        score, j = (c.square() / outside).max(1)
        active = active & (score > noise)
        outside[everyone, j] = torch.inf
        picked = atoms[j] if mask is None else atoms[j] * mask
        q = picked @ atoms.T
        left = norms[everyone, j]
        loads = [row[everyone, j] for row in rows]
        for row, load in zip(rows, loads, strict=True):
            q = q - load.unsqueeze(1) * row
            left = left - load.square()
        taken = active & (left > small * norms[everyone, j])
        pivot = torch.where(taken, left, 1).sqrt()
        q = torch.where(taken.unsqueeze(1), q / pivot.unsqueeze(1), 0)
        beta = torch.where(taken, c[everyone, j] / pivot, 0)
        c = c - beta.unsqueeze(1) * q
        if orthogonal:
            rest = outside - q.square()
            outside = torch.where(rest > small * norms, rest, torch.inf)
        energy = energy - beta.double().square()
        rows.append(q)
        chosen.append(j)
        betas.append(beta)
        coordinates.append([torch.where(taken, load, 0) for load in loads] + [pivot])
        count += taken
        active = active & (energy > goals) & (count < limit)
    return scale * _back_substitute(c, chosen, betas, coordinates)


def _back_substitute(c: Tensor, chosen, betas, coordinates) -> Tensor:
    codes = torch.zeros_like(c)
    values: list[Tensor] = []
    for t in range(len(chosen) - 1, -1, -1):
        rest = betas[t]
        for s, value in zip(range(len(chosen) - 1, t, -1), values, strict=True):
            rest = rest - coordinates[s][t] * value
        values.append(rest / coordinates[t][t])
        codes.scatter_add_(1, chosen[t].unsqueeze(1), values[-1].unsqueeze(1))
    return codes


def _choose_nonnegative(X, atoms, mask, goals, limit: int, orthogonal: bool) -> Tensor:
    """Return nonnegative codes with the atoms that NN-OMP or NN-OLS selects."""
    n, everyone = len(X), torch.arange(len(X), device=X.device)
    norms = _norms(atoms, mask, n)
    small = 1e-9  # well above the correlations that remain because of the ridge of the solver
    noise = small**2 * X.square().sum(1)
    codes = X.new_zeros(n, len(atoms))
    correlations = X @ atoms.T
    c, energy = correlations, X.square().sum(1)
    active = energy > goals
    for _ in range(4 * limit + 16):
        member = codes > 0
        outside = _outside(atoms, member, mask, norms) if orthogonal else norms
        useful = (outside > small * norms) & ~member
        score, j = torch.where(useful, c.clamp_min(0).square() / outside, 0).max(1)
        active = active & (score > noise)
        if not active.any():
            break
        member[everyone, j] |= active
        codes = torch.where(active.unsqueeze(1), _fit(codes, member, atoms, mask, correlations), codes)
        rest = X - codes @ atoms
        rest = rest if mask is None else rest * mask
        c, energy = rest @ atoms.T, rest.square().sum(1)
        active = active & (energy > goals) & ((codes > 0).sum(1) < limit)
    return codes


def _outside(atoms: Tensor, member: Tensor, mask: Tensor | None, norms: Tensor) -> Tensor:
    """Return the part of each atom's energy outside the span of each support."""
    index, valid = gather_support(member)
    chosen = atoms[index] * valid.unsqueeze(-1)
    cross = (chosen if mask is None else chosen * mask.unsqueeze(1)) @ atoms.T
    factor, _ = torch.linalg.cholesky_ex(support_gram(atoms, index, valid, mask))
    return norms - torch.linalg.solve_triangular(factor, cross, upper=False).square().sum(1)


def _fit(codes: Tensor, member: Tensor, atoms: Tensor, mask: Tensor | None, correlations: Tensor):
    """Return the nonnegative least-squares fit on each support, starting from a feasible code."""
    for _ in range(member.shape[1]):
        index, valid = gather_support(member)
        right = torch.where(valid, correlations.gather(1, index), 0)
        target = solve_support(support_gram(atoms, index, valid, mask), right)
        here = codes.gather(1, index)
        blocked = valid & ~(target > 0)
        ratio = torch.where(blocked, here / (here - target).clamp_min(1e-300), torch.inf)
        step = ratio.amin(1, keepdim=True).clamp_max(1)
        moved = here + step * (target - here)
        leaves = blocked & (ratio <= step)
        codes = scatter_support(torch.where(leaves, 0, moved), index, valid, codes.shape[1])
        if not blocked.any():
            return codes
        member = member & ~torch.zeros_like(member).scatter_(1, index, leaves)
    return codes

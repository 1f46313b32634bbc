"""Batched linear algebra on supports, one support per sample, for tensors on any device."""

import torch
from torch import Tensor

__all__ = ["gather_support", "sample_blocks", "scatter_support", "solve_support", "support_gram"]

RIDGE = 1e-12  # relative to the largest squared norm; makes the codes of dependent atoms unique


def sample_blocks(n_samples: int, n_components: int, n_features: int) -> list[slice]:
    """Return blocks of samples whose supports need at most about a gigabyte as dense matrices."""
    width = min(n_components, n_features) * (n_features + n_components)
    size = max(16, 2**27 // width)
    return [slice(start, start + size) for start in range(0, n_samples, size)]


def gather_support(member: Tensor) -> tuple[Tensor, Tensor]:
    """Return the atoms of each support, (n, k) with k the largest size, and which of them are valid."""
    size = max(int(member.sum(1).max()), 1)
    valid, index = member.to(torch.uint8).topk(size, dim=1)
    return index, valid.bool()


def support_gram(atoms: Tensor, index: Tensor, valid: Tensor, mask: Tensor | None) -> Tensor:
    """Return the Gram matrix of each support over observed entries; the identity at invalid entries."""
    chosen = atoms[index] * valid.unsqueeze(-1)
    if mask is not None:
        chosen = chosen * mask.unsqueeze(1)
    gram = chosen @ chosen.mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.amax(1, keepdim=True)
    diagonal += (~valid).to(gram.dtype)
    return gram


def solve_support(gram: Tensor, right: Tensor) -> Tensor:
    """Solve gram z = right, (n, k), by Cholesky; NaN where a matrix is not positive definite."""
    factor, failure = torch.linalg.cholesky_ex(gram)
    z = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
    return torch.where((failure == 0).unsqueeze(-1), z, torch.nan)


def scatter_support(values: Tensor, index: Tensor, valid: Tensor, n_components: int) -> Tensor:
    """Return dense codes (n, n_components) from values on supports."""
    codes = values.new_zeros(len(values), n_components)
    return codes.scatter_add_(1, index, torch.where(valid, values, 0))

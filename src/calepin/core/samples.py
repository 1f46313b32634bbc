"""Euclidean geometry of a batch: one inner product, norm or factor for each sample."""

import torch
from torch import Tensor

__all__ = ["expand", "inner", "norm"]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the real part of ``sum(conj(a) * b)`` of each sample, shape (n,)."""
    return (a.conj() * b).real.flatten(1).sum(1)


def norm(a: Tensor) -> Tensor:
    """Return the Euclidean norm of each sample, shape (n,)."""
    return torch.linalg.vector_norm(a.flatten(1), dim=1)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """View one value a sample, (n,), as (n, 1, ...) so that it broadcasts against `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))

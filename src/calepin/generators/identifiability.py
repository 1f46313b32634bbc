"""Identifiability of a dictionary whose coefficients come from a known generator.

Observations ``x = G(z) D`` do not distinguish D from another dictionary that explains them with other
latents. To first order, if D changes by E and every sample is decoded again, the remaining residual is

    (I - P_z) E^T G(z),        P_z the projection on the range of D^T J(z), J = dG/dz

The update of Algorithm 1 (the paper's C^{-1}-preconditioned gradient step), linearised at D, is

    E  <-  E - eta T(E),       T(E) = C^{-1} E[ G(z) G(z)^T E (I - P_z) ],       C = E[ G G^T ]

T is self-adjoint in the metric of C with a spectrum between 0 and 1: each eigendirection contracts by
``1 - eta lambda``. Directions of eigenvalue 0 change no observation: the symmetries of G, such as the
scale of ReLU(W z). Directions with E^T G = 0 have no effect at all and are called unseen. (Source:
"Dictionary learning under generative coefficient priors", 2022, sections 3 and 5; the linearisation is
calepin's own.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number
from calepin.generators.base import Generator, latent_dimension, linearise

__all__ = ["Identifiability", "identifiability", "samples_needed"]

_DENSE = 2000  # largest number of unknowns for which the whole spectrum is computed
_SAMPLES_PER_NEED = 4
_CHUNK = 1 << 22  # number of entries of the products of one block of samples


@dataclass(frozen=True)
class Identifiability:
    """The result of `identifiability`; ``str()`` describes it in words.

    Attributes
    ----------
    n_coefficients, n_seen : int
        Number of coefficients and dimension of their span: only ``n_seen`` combinations of atoms are seen.
    n_null : int
        Number of seen directions that change no observation, to first order.
    null_directions : array, shape (n_null, n_coefficients, n_features)
        The corresponding changes of the atoms, orthonormal in the metric of C. If only the smallest
        eigenvalues are computed, there may be more such directions.
    spectrum : array
        Eigenvalues of the linearised update, ascending: all of them, or the smallest. Directions outside the
        span of the atoms, whose eigenvalue is 1, are omitted.
    symmetries : tuple of str
        Descriptions of the null directions.
    n_samples_needed : int
        Number of samples, with unknown latents, that determines the seen directions.
    """

    n_coefficients: int
    n_seen: int
    n_null: int
    null_directions: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    symmetries: tuple[str, ...]
    n_samples_needed: float

    @property
    def identifiable(self) -> bool:
        """Whether the dictionary is determined locally: every direction is seen and none is null."""
        return self.n_null == 0 and self.n_seen == self.n_coefficients

    @property
    def contraction(self) -> float:
        """Largest factor of a direction that is not null in a step eta = 1; 1 if there is none."""
        rest = self.spectrum[self.n_null :]
        return max(0.0, float(1 - rest.min())) if rest.size else 1.0

    def __str__(self) -> str:
        lines = []
        if self.n_seen < self.n_coefficients:
            lines.append(
                f"The coefficients span {self.n_seen} of {self.n_coefficients} dimensions: only that many "
                "combinations of atoms are seen, the others are undetermined."
            )
        if self.n_null:
            lines.append(f"{self.n_null} directions of the dictionary change no observation:")
            lines += [f"  - {symmetry}" for symmetry in self.symmetries]
        if self.identifiable:
            lines.append("The dictionary is identifiable near these atoms.")
        if self.spectrum.size > self.n_null:
            lines.append(
                f"All other directions shrink by a factor of {self.contraction:.4g} or less in one step."
            )
        need = "impossible" if self.n_samples_needed == inf else f"at least {self.n_samples_needed}"
        lines.append(f"Number of samples that determines the seen combinations: {need}.")
        return "\n".join(lines)


def identifiability(
    atoms: ArrayLike,
    generator: Generator,
    *,
    latents: ArrayLike | None = None,
    latent_dim: int | None = None,
    n_samples: int | None = None,
    n_directions: int = 20,
    tol: float = 1e-6,
    seed: int = 0,
) -> Identifiability:
    """Return which directions of a dictionary can be learned from samples ``G(z) D``.

    Parameters
    ----------
    atoms : array of shape (n_coefficients, n_features)
        The dictionary D.
    generator : callable
        G: latents (n, k) to coefficients (n, n_coefficients), differentiable.
    latents : array of shape (n, k), optional
        Samples of the prior; by default standard normal.
    latent_dim : int, optional
        Latent dimension k, for a generator without this attribute or a first linear layer.
    n_samples : int, optional
        Number of latents to draw; by default four times the number that determines the dictionary.
    n_directions : int, default 20
        Number of smallest eigenvalues to compute if there are more than 2000 unknowns.
    tol : float, default 1e-6
        Eigenvalues below `tol` count as 0. Directions of the coefficients with a relative squared singular
        value below ``1e-4 * tol`` count as unseen.
    seed : int, default 0
        Seed of the random latents.

    Raises
    ------
    ValueError
        If shapes do not match, values are not finite, or there are too few latents for the spectrum.
    """
    check_arguments(identifiability, locals())
    check_integer("n_directions", n_directions, least=0)
    check_number("tol", tol, above=0)
    check_integer("n_samples", n_samples, optional=True)
    if latents is not None:
        check_array("latents", latents, ndim=2)
    rows = torch.tensor(check_array("atoms", atoms))
    if rows.ndim != 2 or not torch.isfinite(rows).all() or not rows.any():
        raise ValueError(
            "atoms: expected finite numbers of shape (n_coefficients, n_features), not all zero, "
            f"got shape {tuple(rows.shape)}"
        )
    z = _latents(latents, generator, latent_dim, n_samples, rows, seed)
    coefficients, jacobian = (t.detach().double() for t in linearise(generator, z))
    if coefficients.shape[1] != len(rows):
        raise ValueError(
            f"atoms: expected {coefficients.shape[1]} rows, one per coefficient, got {len(rows)}"
        )
    if not bool(torch.isfinite(coefficients.square().sum()) & torch.isfinite(jacobian.square().sum())):
        raise ValueError("latents: expected ones with finite coefficients, got values that overflow")
    whiten = _whitening(coefficients, tol)
    basis = _row_space(rows)
    flat, width = coefficients @ whiten, basis.shape[1]
    need = samples_needed(width, flat.shape[1], z.shape[1])
    if len(z) < need < inf:
        raise ValueError(f"n_samples: expected at least {need} latents for these sizes, got {len(z)}")
    tangents = _tangents(jacobian @ (rows @ basis))
    explained, directions = _explained(flat, tangents, n_directions)
    spectrum = (1 - explained).clamp(0, 1)
    n_null = int((spectrum < tol).sum())
    moves = torch.einsum("pq,dqr,mr->dpm", whiten, directions[:n_null], basis)
    return Identifiability(
        n_coefficients=len(rows),
        n_seen=flat.shape[1],
        n_null=n_null,
        null_directions=moves.numpy(),
        spectrum=spectrum.numpy(),
        symmetries=_symmetries(n_null, coefficients, rows @ basis, tangents, moves @ basis, tol),
        n_samples_needed=samples_needed(rows.shape[1], flat.shape[1], z.shape[1]),
    )


def samples_needed(n_features: int, n_seen: int, latent_dim: int) -> float:
    """Return the number of samples with unknown latents that determines a dictionary; infinity if none does.

    Each sample gives ``n_features`` equations and adds ``latent_dim`` unknowns, its own latent. The
    dictionary has ``n_features * n_seen`` unknowns.
    """
    check_integer("n_features", n_features)
    check_integer("n_seen", n_seen)
    check_integer("latent_dim", latent_dim)
    left = n_features - latent_dim
    return ceil(n_features * n_seen / left) if left > 0 else inf


def _latents(
    latents: ArrayLike | None,
    generator: Generator,
    latent_dim: int | None,
    n_samples: int | None,
    rows: Tensor,
    seed: int,
) -> Tensor:
    """Return the given latents, or draw them, in the precision of the generator's own tensors."""
    from calepin.generators.base import like_generator

    like = like_generator(generator, default=torch.float64)
    if latents is not None:
        return torch.tensor(check_array("latents", latents, ndim=2)).to(like)
    k = latent_dimension(generator, latent_dim)
    if n_samples is None:
        need = samples_needed(min(rows.shape), len(rows), k)
        n_samples = max(200, _SAMPLES_PER_NEED * int(need) if need < inf else 0)
    drawn = torch.randn(n_samples, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(like)


def _whitening(coefficients: Tensor, tol: float) -> Tensor:
    """Return W, (n_coefficients, n_seen), with ``W^T C W = I`` on the span of the coefficients."""
    values, vectors = torch.linalg.eigh(coefficients.mT @ coefficients / len(coefficients))
    seen = values > tol * 1e-4 * values[-1]
    return vectors[:, seen] / values[seen].sqrt()


def _row_space(rows: Tensor) -> Tensor:
    """Return an orthonormal basis, as columns, of the span of the atoms."""
    _, values, basis = torch.linalg.svd(rows, full_matrices=False)
    return basis[values > 1e-10 * values[0]].mT


def _tangents(slopes: Tensor) -> Tensor:
    """Return orthonormal rows (n, k, width) that span each sample's Jacobian; dependent ones are zero."""
    _, values, directions = torch.linalg.svd(slopes, full_matrices=False)
    used = values > 1e-8 * values[:, :1].clamp_min(torch.finfo(values.dtype).tiny)
    return directions * used.unsqueeze(2)


def _explained(flat: Tensor, tangents: Tensor, n_directions: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues, descending, and eigenvectors of the part that new latents explain.

    With whitened coefficients h, the quadratic form is ``mean |P_z F^T h|^2`` for changes F, (n_seen, width).
    """
    n, q = flat.shape
    width = tangents.shape[2]

    def apply(F: Tensor) -> Tensor:
        moved = torch.einsum("nq,...qr->...nr", flat, F)
        kept = torch.einsum("...nk,nkr->...nr", torch.einsum("...nr,nkr->...nk", moved, tangents), tangents)
        return torch.einsum("nq,...nr->...qr", flat, kept) / n

    if q * width <= _DENSE:
        gram = flat.new_zeros(q * width, q * width)
        for h, t in zip(
            *(x.split(max(1, _CHUNK // (q * width * tangents.shape[1]))) for x in (flat, tangents)),
            strict=True,
        ):
            products = torch.einsum("nq,nkr->nkqr", h, t).reshape(-1, q * width)
            gram += products.mT @ products
        values, vectors = torch.linalg.eigh(gram / n)
        return values.flip(0), vectors.mT.flip(0).reshape(-1, q, width)
    return _largest(apply, (q, width), n_directions)


def _largest(
    apply: Callable[[Tensor], Tensor], shape: tuple[int, int], n_directions: int
) -> tuple[Tensor, Tensor]:
    """Return the same as `_explained` for many unknowns, by a matrix-free Lanczos method."""
    from scipy.sparse import linalg

    def matvec(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return apply(torch.from_numpy(v).reshape(shape)).reshape(-1).numpy()

    scipy: Any = linalg  # its type annotations lack both of these signatures
    size = prod(shape)
    operator = scipy.LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    values, vectors = scipy.eigsh(operator, k=min(n_directions, size - 1), which="LA", v0=start, tol=1e-9)
    order = np.argsort(-values)
    return torch.from_numpy(values[order]), torch.from_numpy(vectors.T[order]).reshape(-1, *shape)


def _symmetries(
    n_null: int, coefficients: Tensor, reduced: Tensor, tangents: Tensor, moves: Tensor, tol: float
) -> tuple[str, ...]:
    """Describe the null directions: first the known symmetries among them, then the others."""
    if not n_null:
        return ()

    def unexplained(mixed: Tensor) -> float:
        """Return the fraction of a change, given by its effect on each sample, that no latents explain."""
        left = mixed - torch.einsum("nk,nkr->nr", torch.einsum("nr,nkr->nk", mixed, tangents), tangents)
        return float(left.square().sum() / mixed.square().sum().clamp_min(torch.finfo(mixed.dtype).tiny))

    names = []
    span = int(torch.linalg.matrix_rank(coefficients @ reduced, rtol=1e-8))
    if n_null >= span * span and tangents.flatten(0, 1).any(1).sum() == len(tangents) * span:
        names.append(
            f"any mixing of the {span} dimensions that the data span: up to a change of the latents the "
            f"generator is linear, so only this span is determined ({span * span} directions)"
        )
        return tuple(names)
    if unexplained(coefficients @ reduced) < tol:
        names.append("the scale of the whole dictionary: latents can scale all coefficients together")
    own = [
        i
        for i in range(len(reduced))
        if coefficients[:, i].any() and unexplained(coefficients[:, i, None] * reduced[i]) < tol
    ]
    if own:
        shown = ", ".join(map(str, own[:8])) + ", ..." * (len(own) > 8)
        names.append(f"the scale of single atoms ({len(own)}): {shown}")
    others = n_null - (len(own) or len(names))
    if others > 0:
        strength = moves.square().sum((0, 2))
        shown = ", ".join(map(str, strength.argsort(descending=True, stable=True)[:5].tolist()))
        names.append(f"{others} more, which change atoms {shown} most")
    return tuple(names)

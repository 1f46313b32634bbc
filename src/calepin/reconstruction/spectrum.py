"""Jacobian spectra of untrained networks, and the resulting bounds for the recovery of smooth signals.

A network whose Jacobian has left singular vectors w_1, w_2, ... (the trigonometric basis, for a
convolutional generator) and decreasing singular values sigma_i recovers x from m Gaussian measurements with a
squared error of at most

    C ( sum_i <w_i, x>^2 / sigma_i^2 ) sum_{i > 2m/3} sigma_i^2

(Heckel and Soltanolkotabi, "Compressive sensing with un-trained neural networks", 2020, Theorems 1 and 2.)
Frequencies are ordered: constant, cos 1, sin 1, cos 2, sin 2, ...
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number, check_shape, is_integer
from calepin.core.random import randn
from calepin.networks.jacobian import Jacobian
from calepin.networks.two_layer import embed_kernel
from calepin.networks.untrained import UntrainedNetwork

__all__ = [
    "Spectrum",
    "jacobian_spectrum",
    "kernel_weights",
    "low_frequency_energy",
    "measurements_needed",
    "recovery_bound",
    "spectral_drift",
    "subspace_energy",
    "trigonometric_basis",
]

LARGEST_CONSTANT = 0.1
"""Default of C. The largest ratio of error to bound is .087 in ``cs-linear`` with seeds 0, 1, 2."""

_DENSE_ENTRIES = 2**25


@dataclass(frozen=True)
class Spectrum:
    """Left singular vectors and singular values of a Jacobian, largest first.

    Attributes
    ----------
    values : ndarray (r,)
    vectors : ndarray (r, n)
        Singular vectors as rows; signals are flattened.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]


def trigonometric_basis(n: int) -> NDArray[np.float64]:
    """Return the orthonormal trigonometric basis as rows, (n, n), lowest frequency first (eq. 10)."""
    check_integer("n", n)
    angle = 2 * np.pi * np.arange(n) / n
    rows = [np.ones(n) / np.sqrt(n)]
    for frequency in range(1, (n + 1) // 2):
        rows += [np.sqrt(2 / n) * wave(frequency * angle) for wave in (np.cos, np.sin)]
    if n % 2 == 0:
        rows.append(np.cos(n // 2 * angle) / np.sqrt(n))
    return np.array(rows[:n])


def kernel_weights(kernel: ArrayLike, size: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Return the weights of the trigonometric functions for a two-layer generator with a kernel (eq. 11).

        sigma = ||u|| sqrt( |F g( u * u / ||u||^2 )| ),      g(z) = (1 - arccos(z) / pi) z / 2

    Parameters
    ----------
    kernel : array, one or two axes
    size : int or tuple of int
        Pixels of the signal.

    Returns
    -------
    ndarray (n,)
        In 1-D in the order of `trigonometric_basis`; in 2-D the weights of the frequencies of
        ``numpy.fft.fft2``, (h, w).

    Raises
    ------
    ValueError
        A kernel of zeros, or one larger than the signal.
    """
    pixels = (size,) if is_integer(size) else check_shape("size", size)
    u = embed_kernel(torch.as_tensor(check_array("kernel", kernel)), pixels).numpy()
    energy = float((u**2).sum())
    if not energy > 0:
        raise ValueError("kernel: expected an entry that is not zero, got only zeros")
    # the autocorrelation, which is u * u for symmetric kernels
    z = np.clip(np.fft.ifftn(np.abs(np.fft.fftn(u)) ** 2).real / energy, -1, 1)
    sigma = np.sqrt(energy * np.abs(np.fft.fftn(0.5 * (1 - np.arccos(z) / np.pi) * z)))
    return sigma[_frequencies(pixels[0])] if is_integer(size) else sigma


def _frequencies(n: int) -> NDArray[np.intp]:
    """Return the frequency of each row of `trigonometric_basis`."""
    return (np.arange(n) + 1) // 2


def jacobian_spectrum(
    network: UntrainedNetwork,
    weights: Tensor,
    *,
    rank: int | None = None,
    n_iter: int = 3,
    generator: torch.Generator | None = None,
) -> Spectrum:
    """Return singular values and left singular vectors of a network's Jacobian.

    Small Jacobians are computed exactly, row by row. For large ones the leading `rank` values are computed by
    randomised subspace iteration, which needs products only (Halko, Martinsson, Tropp 2011, algorithm 4.4).

    Parameters
    ----------
    network : UntrainedNetwork
    weights : Tensor (n_parameters,)
    rank : int, optional
        Number of singular values; all by default, which needs a small Jacobian.
    n_iter : int, default 3
        Power iterations.
    generator : torch.Generator, optional
        Draws the initial subspace; by default a new one with a fixed seed.

    Raises
    ------
    ValueError
        Complex signals, a rank out of range, or no rank for a large Jacobian.
    """
    check_arguments(jacobian_spectrum, locals())
    jacobian = Jacobian(network, weights)
    n, p = math.prod(network.out_shape), network.n_parameters
    if network.is_complex:
        raise ValueError("network: expected real signals, got complex ones")
    check_integer("rank", rank, most=min(n, p), optional=True)
    check_integer("n_iter", n_iter, least=0)
    if n * p <= _DENSE_ENTRIES:
        rows = jacobian.adjoint(torch.eye(n).to(jacobian.weights).view(n, *network.out_shape))
        if not bool(torch.isfinite(rows).all()):
            raise ValueError("weights: expected ones with a finite Jacobian, got NaN or infinity in it")
        vectors, values, _ = torch.linalg.svd(rows.double(), full_matrices=False)
        vectors = vectors.T[:rank]
    elif rank is None:
        raise ValueError(f"rank: expected a number, since the Jacobian has {n} x {p} entries")
    else:
        vectors, values = _leading(jacobian, rank, n_iter, generator)
    return Spectrum(values[: len(vectors)].cpu().numpy(), vectors.cpu().numpy())


def _leading(
    jacobian: Jacobian, rank: int, n_iter: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    n = math.prod(jacobian.out_shape)
    width = min(rank + 10, n)
    generator = generator or torch.Generator().manual_seed(0)
    basis = randn((width, n), like=jacobian.weights, generator=generator)
    for _ in range(n_iter):
        basis = torch.linalg.qr(basis.double().T).Q.T.to(jacobian.weights)
        pulled = jacobian.adjoint(basis.view(width, *jacobian.out_shape))
        basis = jacobian(pulled).flatten(1)
    basis = torch.linalg.qr(basis.double().T).Q.T
    rows = jacobian.adjoint(basis.to(jacobian.weights).view(width, *jacobian.out_shape))
    left, values, _ = torch.linalg.svd(rows.double(), full_matrices=False)
    return (left.T @ basis)[:rank], values


def recovery_bound(
    signal: ArrayLike,
    sigma: ArrayLike,
    n_measurements: int,
    *,
    basis: ArrayLike | None = None,
    xi: float = 0.0,
) -> float:
    """Return the bound of Theorems 1 and 2 on the squared error, without its constant C.

        ( sum_i <w_i, x>^2 / sigma_i^2 ) sum_{i > 2m/3} sigma_i^2 + xi^2 ||x||^2

    Parameters
    ----------
    signal : array (n,)
        x; the bound is infinite if x has a part outside the span of the basis.
    sigma : array (r,)
        Singular values, in any order.
    n_measurements : int
        m.
    basis : array (r, n), optional
        Rows w_i; the trigonometric basis by default.
    xi : float, default 0
        Distance of a finite network from its linear limit (Theorem 2).

    Raises
    ------
    ValueError
        The numbers of singular values and rows of the basis differ.
    """
    x, sigma = check_array("signal", signal).ravel(), check_array("sigma", sigma).ravel()
    check_integer("n_measurements", n_measurements, least=0)
    check_number("xi", xi, least=-1e100, most=1e100)
    rows = trigonometric_basis(len(x)) if basis is None else check_array("basis", basis)
    if rows.shape != (len(sigma), len(x)):
        raise ValueError(f"sigma: expected one value for each of {len(rows)} rows of basis, got {len(sigma)}")
    order = np.argsort(-sigma, kind="stable")
    coefficients, sigma = (rows @ x)[order], sigma[order]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(np.abs(coefficients) > 1e-12 * np.linalg.norm(x), coefficients**2 / sigma**2, 0.0)
    tail = float((sigma[int(2 * n_measurements / 3) :] ** 2).sum())
    effort = float(terms.sum())
    return (effort * tail if tail else 0.0) + xi**2 * float(x @ x)


def measurements_needed(
    signal: ArrayLike, sigma: ArrayLike, error: float, *, constant: float = LARGEST_CONSTANT
) -> int | None:
    """Return the smallest number of measurements for which the bound is at most `error`.

    Parameters
    ----------
    signal : array (n,)
        The signal, or a signal with the expected spectrum.
    sigma : array (n,)
        Weights of the network, see `kernel_weights`.
    error : float
        Squared error relative to the energy of the signal.
    constant : float
        C, which the theorems do not give; the default is above the largest value in ``cs-linear``.
        Other kernels and signals may need more.

    Returns
    -------
    int or None
        None if the bound is larger even for n measurements.

    Raises
    ------
    ValueError
        An error that is not positive, or numbers of weights and pixels that differ.
    """
    check_number("error", error, above=0)
    check_number("constant", constant, above=0)
    x = check_array("signal", signal).ravel()
    allowed = error * float(x @ x)
    # the bound decreases with m: bisection
    low, high = 0, len(x)
    if constant * recovery_bound(x, sigma, high) > allowed:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if constant * recovery_bound(x, sigma, middle) <= allowed:
            high = middle
        else:
            low = middle
    return high


def low_frequency_energy(signal: ArrayLike, p: int) -> float:
    """Return the fraction of a signal's energy in its p lowest frequencies, a measure of smoothness.

    In 1-D these are the first p functions of the trigonometric basis; in 2-D the p products of such functions
    whose frequency (kx / w)^2 + (ky / h)^2 is lowest.
    """
    x = np.squeeze(check_array("signal", signal))
    if x.ndim not in (1, 2):
        raise ValueError(f"signal: expected one or two axes, got {x.shape}")
    check_integer("p", p, most=x.size)
    if not x.any():
        raise ValueError("signal: expected one that is not all zero, got zeros")
    x = x / np.abs(x).max() if np.abs(x).max() < 1e-140 else x  # squares of such numbers are zero
    spectrum = x
    squared = np.zeros(x.shape)
    for axis, n in enumerate(x.shape):
        spectrum = np.moveaxis(np.tensordot(trigonometric_basis(n), spectrum, (1, axis)), 0, axis)
        frequency = (_frequencies(n) / n) ** 2
        squared = squared + frequency.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    energy = spectrum.ravel()[np.argsort(squared.ravel(), kind="stable")] ** 2
    return float(energy[:p].sum() / energy.sum())


def subspace_energy(vectors: ArrayLike, basis: ArrayLike) -> float:
    """Return the mean fraction of the energy of the rows of `vectors` in the span of the rows of `basis`.

    Rows of both are orthonormal. Singular vectors of nearly equal singular values are determined only up to
    a rotation, so that subspaces have to be compared.
    """
    vectors, basis = check_array("vectors", vectors, ndim=2), check_array("basis", basis, ndim=2)
    if vectors.shape[1] != basis.shape[1]:
        raise ValueError(f"basis: expected rows of {vectors.shape[1]} entries, got {basis.shape[1]}")
    return float(((vectors @ basis.T) ** 2).sum() / len(vectors))


def spectral_drift(before: ArrayLike, after: ArrayLike) -> float:
    """Return the median of ``|log(after / before)|`` of two spectra, a measure of their difference."""
    before, after = check_array("before", before), check_array("after", after)
    if before.shape != after.shape:
        raise ValueError(f"after: expected shape {before.shape}, got {after.shape}")
    use = (before > 0) & (after > 0)
    if not use.any():
        raise ValueError("before and after: expected a value that is positive in both, got none")
    return float(np.median(np.abs(np.log(after[use] / before[use]))))

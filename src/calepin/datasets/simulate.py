"""Simulated data with known atoms and codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_shape
from calepin.core.random import numpy_generator

__all__ = [
    "ConvolutionalData",
    "SparseData",
    "simulate_convolutional",
    "simulate_sparse",
    "smooth_filters",
]


@dataclass(frozen=True)
class SparseData:
    """Samples ``X = codes @ atoms + noise`` with the atoms and codes that generated them.

    Attributes
    ----------
    X : array of shape (n_samples, n_features)
        The samples.
    atoms : array of shape (n_components, n_features)
        The atoms, of unit norm.
    codes : array of shape (n_samples, n_components)
        The codes, with `n_nonzero` nonzero entries in each row.
    """

    X: NDArray[np.float64]
    atoms: NDArray[np.float64]
    codes: NDArray[np.float64]


def simulate_sparse(
    n_samples: int,
    n_features: int,
    n_components: int,
    *,
    n_nonzero: int,
    amplitude: tuple[float, float] = (1.0, 2.0),
    signs: bool = True,
    noise: float = 0.0,
    random_state: int | np.random.Generator = 0,
) -> SparseData:
    """Return random sparse combinations of the atoms of a random dictionary.

    Atoms are uniformly distributed on the unit sphere. Each sample uses `n_nonzero` atoms, drawn uniformly
    without replacement. Coefficients have magnitudes uniform in the range `amplitude`, and random signs if
    `signs` is True. Gaussian noise of standard deviation `noise` is added. K-SVD (Aharon, Elad, Bruckstein
    2006, Sec. V-A) and NOODL (Rambhatla, Li, Haupt 2019, Sec. 5) were tested on this model.

    Raises
    ------
    ValueError
        If a size is below 1, `n_nonzero` exceeds `n_components`, a range is empty or negative, or `noise` is
        negative.
    """
    check_arguments(simulate_sparse, locals())
    sizes = {"n_samples": n_samples, "n_features": n_features, "n_components": n_components}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")
    if not 1 <= n_nonzero <= n_components:
        raise ValueError(f"n_nonzero: expected a number in [1, n_components={n_components}], got {n_nonzero}")
    low, high = amplitude
    if not 0 <= low <= high:
        raise ValueError(f"amplitude: expected a range 0 <= low <= high, got {amplitude}")
    if noise < 0:
        raise ValueError(f"noise: expected at least 0, got {noise}")
    rng = numpy_generator(random_state)
    atoms = rng.standard_normal((n_components, n_features))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    support = rng.permuted(np.tile(np.arange(n_components), (n_samples, 1)), axis=1)[:, :n_nonzero]
    values = rng.uniform(low, high, support.shape)
    if signs:
        values *= rng.choice([-1.0, 1.0], support.shape)
    codes = np.zeros((n_samples, n_components))
    np.put_along_axis(codes, support, values, axis=1)
    X = codes @ atoms
    if noise:
        X += noise * rng.standard_normal(X.shape)
    return SparseData(X, atoms, codes)


@dataclass(frozen=True)
class ConvolutionalData:
    """Observations ``X ~ likelihood(f^{-1}(sum_m codes_m * atoms_m + offset))`` with their atoms and codes.

    Attributes
    ----------
    X : array of shape (n_samples, channels, *signal)
        The observations.
    atoms : array of shape (n_components, channels, *kernel)
        The filters, of unit norm.
    codes : array of shape (n_samples, n_components, *positions)
        The nonnegative codes at signal - kernel + 1 positions along each axis, with `n_events` nonzero
        entries for each filter in each sample.
    eta : array of shape (n_samples, channels, *signal)
        The linear predictor.
    """

    X: NDArray[np.float64]
    atoms: NDArray[np.float64]
    codes: NDArray[np.float64]
    eta: NDArray[np.float64]


def smooth_filters(
    n_components: int, kernel_size: Sequence[int], *, n_channels: int = 1, random_state: Any = 0
) -> NDArray[np.float64]:
    """Return random smooth filters (n_components, n_channels, *kernel_size) of unit norm, small at the ends.

    A filter is white noise, smoothed by a Gaussian with a standard deviation of a sixteenth of the kernel and
    multiplied by a Hann window.
    """
    check_integer("n_components", n_components)
    check_integer("n_channels", n_channels)
    check_shape("kernel_size", kernel_size)
    check_arguments(smooth_filters, locals())
    from scipy.ndimage import gaussian_filter

    rng = numpy_generator(random_state)
    noise = rng.standard_normal((n_components, n_channels, *kernel_size))
    filters = gaussian_filter(noise, [0, 0, *(size / 16 for size in kernel_size)], mode="constant")
    for axis, size in enumerate(kernel_size, start=2):
        window = np.hanning(size + 2)[1:-1]
        filters *= window.reshape(-1, *[1] * (filters.ndim - 1 - axis))
    return filters / np.linalg.norm(filters.reshape(n_components, -1), axis=1).reshape(
        -1, *[1] * (filters.ndim - 1)
    )


def simulate_convolutional(
    n_samples: int,
    signal_shape: Sequence[int],
    *,
    atoms: NDArray[np.floating] | None = None,
    n_components: int = 3,
    kernel_size: Sequence[int] = (50,),
    n_events: int = 5,
    amplitude: tuple[float, float] = (5.0, 5.0),
    likelihood: str = "binomial",
    trials: int = 25,
    offset: float = 0.0,
    noise: float = 1.0,
    random_state: int | np.random.Generator = 0,
) -> ConvolutionalData:
    """Return random observations of signals in which each filter occurs a few times at random positions.

    With the defaults and signals of 500 samples this is the simulation of Tolooshams et al. (2020, section
    5.2.1). The paper does not specify the filters (here `smooth_filters`), the distribution of the amplitudes
    (here uniform in `amplitude`) and the baseline (here `offset`).

    Parameters
    ----------
    n_samples : int
        Number of signals.
    signal_shape : sequence of int
        Spatial shape of the signals, one number for each axis.
    atoms : array (n_components, channels, *kernel), optional
        The filters. Default: `n_components` random filters of `kernel_size`.
    n_components : int, default 3
        Number of random filters.
    kernel_size : sequence of int, default (50,)
        Spatial shape of random filters.
    n_events : int, default 5
        Number of occurrences of each filter in each signal, at distinct positions.
    amplitude : (float, float), default (5, 5)
        Range of the amplitudes, which are uniformly distributed.
    likelihood : {"gaussian", "binomial", "poisson"}, default "binomial"
        Family of the observations: normal with identity link, binomial with logit link, or Poisson with log
        link.
    trials : int, default 25
        Number of trials of the binomial likelihood.
    offset : float, default 0
        Baseline of the linear predictor.
    noise : float, default 1
        Standard deviation of the Gaussian likelihood.
    random_state : int or Generator, default 0
        Seed of all random numbers.

    Raises
    ------
    ValueError
        If a size is below 1, the kernel is longer than the signal, there are more events than positions, the
        likelihood is unknown, or a range is empty or negative.
    """
    check_arguments(simulate_convolutional, locals())
    rng = numpy_generator(random_state)
    if atoms is None:
        atoms = smooth_filters(n_components, kernel_size, random_state=rng)
    atoms = check_array("atoms", atoms)
    check_shape("signal_shape", tuple(signal_shape), ndim=atoms.ndim - 2)
    positions = tuple(n - k + 1 for n, k in zip(signal_shape, atoms.shape[2:], strict=True))
    if min(positions) < 1:
        raise ValueError(
            f"signal_shape: expected at least the kernel's size {atoms.shape[2:]}, got {tuple(signal_shape)}"
        )
    n_places = int(np.prod(positions))
    low, high = amplitude
    for name, value, least in (("n_samples", n_samples, 1), ("n_events", n_events, 0), ("trials", trials, 1)):
        if value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if n_events > n_places:
        raise ValueError(f"n_events: expected at most the {n_places} positions of a filter, got {n_events}")
    if not 0 <= low <= high or noise < 0:
        raise ValueError(
            "amplitude and noise: expected a range 0 <= low <= high and at least 0, "
            f"got {amplitude} and {noise}"
        )
    flat = np.zeros((n_samples, len(atoms), n_places))
    places = rng.random(flat.shape).argpartition(max(n_events - 1, 0), axis=2)[..., :n_events]
    np.put_along_axis(flat, places, rng.uniform(low, high, places.shape), axis=2)
    codes = flat.reshape(n_samples, len(atoms), *positions)
    eta = _synthesise(codes, atoms) + offset
    draw = {
        "gaussian": lambda: eta + noise * rng.standard_normal(eta.shape),
        "binomial": lambda: rng.binomial(trials, 1 / (1 + np.exp(-eta))).astype(np.float64),
        "poisson": lambda: rng.poisson(np.exp(eta)).astype(np.float64),
    }
    if likelihood not in draw:
        raise ValueError(f"likelihood: expected one of {sorted(draw)}, got {likelihood!r}")
    return ConvolutionalData(draw[likelihood](), atoms, codes, eta)


def _synthesise(codes: NDArray[np.float64], atoms: NDArray[np.float64]) -> NDArray[np.float64]:
    axes = tuple(range(2, codes.ndim))
    size = [n + k - 1 for n, k in zip(codes.shape[2:], atoms.shape[2:], strict=True)]
    spectrum = np.einsum(
        "nm...,mc...->nc...", np.fft.rfftn(codes, size, axes), np.fft.rfftn(atoms, size, axes)
    )
    return np.fft.irfftn(spectrum, size, axes)

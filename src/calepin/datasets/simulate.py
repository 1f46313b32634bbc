"""Simulated data whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ConvolutionalData",
    "SparseData",
    "simulate_convolutional",
    "simulate_sparse",
    "smooth_filters",
]


@dataclass(frozen=True)
class SparseData:
    """Samples ``X = codes @ atoms + noise`` with the truth that made them.

    Attributes
    ----------
    X
        (n_samples, n_features).
    atoms
        (n_components, n_features), unit rows.
    codes
        (n_samples, n_components), `n_nonzero` entries in each row are not zero.
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
    """Plant a random dictionary and draw sparse combinations of its atoms.

    Atoms are Gaussian directions on the unit sphere. Each sample uses `n_nonzero` atoms drawn
    uniformly without replacement, with magnitudes uniform in `amplitude` and, when `signs`, random
    signs; Gaussian noise of standard deviation `noise` is added. This is the planted model on which
    K-SVD (Aharon, Elad, Bruckstein 2006, Sec. V-A) and NOODL (Rambhatla, Li, Haupt 2019, Sec. 5)
    are tested.

    Raises
    ------
    ValueError
        A size below 1, more nonzeros than components, or an empty or negative range.
    """
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
    rng = np.random.default_rng(random_state)
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
    """Observations ``X ~ likelihood(f^{-1}(sum_m codes_m * atoms_m + offset))`` with their truth.

    Attributes
    ----------
    X
        (n_samples, channels, *signal); whole numbers for counts.
    atoms
        (n_components, channels, *kernel), unit norm.
    codes
        (n_samples, n_components, *(signal - kernel + 1)), nonnegative, `n_events` entries of each atom in
        each sample are not zero.
    eta
        (n_samples, channels, *signal), the linear predictor.
    """

    X: NDArray[np.float64]
    atoms: NDArray[np.float64]
    codes: NDArray[np.float64]
    eta: NDArray[np.float64]


def smooth_filters(
    n_components: int, kernel_size: Sequence[int], *, n_channels: int = 1, random_state: Any = 0
) -> NDArray[np.float64]:
    """Draw smooth filters (n_components, n_channels, *kernel_size) of unit norm that vanish at their ends.

    White noise, smoothed by a Gaussian a sixteenth of the kernel wide, under a Hann window.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(random_state)
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
    """Return signals in which each filter appears a few times, anywhere, seen through a likelihood's noise.

    With the defaults and signals of 500 samples it is the simulation of Tolooshams et al. (2020, section
    5.2.1) but for what the paper leaves open: the filters (`smooth_filters` here), the amplitudes, which
    are uniform in `amplitude`, and the baseline `offset`.

    Parameters
    ----------
    n_samples : int
        Number of signals.
    signal_shape : sequence of int
        Their spatial shape, one number an axis.
    atoms : array (n_components, channels, *kernel), optional
        Filters; drawn by default, `n_components` of `kernel_size`.
    n_components : int, default 3
        Filters to draw.
    kernel_size : sequence of int, default (50,)
        Their spatial shape.
    n_events : int, default 5
        Appearances of each filter in each signal, at different places.
    amplitude : (float, float), default (5, 5)
        Range of the amplitudes, which are uniform in it.
    likelihood : {"gaussian", "binomial", "poisson"}, default "binomial"
        Normal with identity link, binomial with logit link, Poisson with log link.
    trials : int, default 25
        Of the binomial likelihood.
    offset : float, default 0
        Baseline of the linear predictor.
    noise : float, default 1
        Standard deviation of the Gaussian likelihood.
    random_state : int or Generator, default 0

    Raises
    ------
    ValueError
        A size below 1, a kernel longer than the signal, more events than places, an unknown likelihood, or
        an empty or negative range.
    """
    rng = np.random.default_rng(random_state)
    if atoms is None:
        atoms = smooth_filters(n_components, kernel_size, random_state=rng)
    atoms = np.asarray(atoms, np.float64)
    positions = tuple(n - k + 1 for n, k in zip(signal_shape, atoms.shape[2:], strict=True))
    if min(positions) < 1:
        raise ValueError(
            f"signal_shape: expected at least the kernel's {atoms.shape[2:]}, got {tuple(signal_shape)}"
        )
    n_places = int(np.prod(positions))
    low, high = amplitude
    for name, value, least in (("n_samples", n_samples, 1), ("n_events", n_events, 0), ("trials", trials, 1)):
        if value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if n_events > n_places:
        raise ValueError(f"n_events: expected at most the {n_places} places of a filter, got {n_events}")
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

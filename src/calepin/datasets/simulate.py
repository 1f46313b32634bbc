"""Simulated data whose truth is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SparseData", "add_gaussian_noise", "simulate_sparse"]


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
            raise ValueError(f"{name} must be at least 1, got {size}")
    if not 1 <= n_nonzero <= n_components:
        raise ValueError(f"n_nonzero must be in [1, n_components={n_components}], got {n_nonzero}")
    low, high = amplitude
    if not 0 <= low <= high:
        raise ValueError(f"amplitude must be a range 0 <= low <= high, got {amplitude}")
    if noise < 0:
        raise ValueError(f"noise must be at least 0, got {noise}")
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


def add_gaussian_noise(pixels: NDArray[np.floating], sigma: float, *, seed: int = 0) -> NDArray[np.float64]:
    """Return ``pixels + default_rng(seed).normal(0, sigma / 255, shape)``, not clipped.

    `sigma` is on the 0 to 255 scale of the denoising literature, whatever the picture's bit depth,
    and `pixels` in [0, 1].

    Raises
    ------
    ValueError
        `sigma` is negative or not finite.
    """
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be a finite number of at least 0, got {sigma}")
    noisy = np.random.default_rng(seed).normal(0, sigma / 255, pixels.shape)
    noisy += pixels
    return noisy

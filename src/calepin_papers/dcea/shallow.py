"""The shallow auto-encoder of the training theory: one layer of coding, then a synthesis.

    c = 4 W^T (y / M - 1/2),    x = S_b(c),    eta = W x,        y ~ Binomial(M, sigmoid(A x*))

It is `UnfoldedAutoencoder` with a dictionary of dense atoms, one layer and the step 4 / M: from a
code of zero the mean is M / 2, and M / 4 bounds the curvature where W has norm one (Tolooshams et al.,
"Convolutional dictionary learning based auto-encoders", 2020, appendix, algorithm 1).
"""

import torch
from torch import Tensor

from calepin.likelihoods import Binomial
from calepin.networks import UnfoldedAutoencoder
from calepin.penalties import HardThreshold, NonNegativeL1

__all__ = ["shallow_autoencoder"]

THRESHOLDS = ("relu", "hard")


def shallow_autoencoder(
    atoms: Tensor, *, trials: int, bias: float, threshold: str = "hard"
) -> UnfoldedAutoencoder:
    """Return the shallow auto-encoder of binomial data, SEA.

    Parameters
    ----------
    atoms : Tensor, shape (n_components, n_features)
        First value of W^T.
    trials : int
        M, of every entry.
    bias : float
        b. The network's ``alpha`` holds it for each atom: b itself with "hard", ``b trials / 4`` with
        "relu", the weight whose threshold it is.
    threshold : {"hard", "relu"}, default "hard"
        S_b: "hard" keeps what exceeds b in magnitude (theorem 7.3), "relu" keeps the positive part of
        ``c - b`` (theorem 7.2, for codes that are not negative).

    Returns
    -------
    UnfoldedAutoencoder
        For counts (n, n_features, 1); its codes are (n, n_components, 1).
    """
    if atoms.ndim != 2:
        raise ValueError(f"atoms: expected shape (n_components, n_features), got {tuple(atoms.shape)}")
    if threshold not in THRESHOLDS:
        raise ValueError(f"threshold: expected one of {THRESHOLDS}, got {threshold!r}")
    likelihood = Binomial(trials)
    step = 1 / likelihood.curvature
    penalty = HardThreshold(bias) if threshold == "hard" else NonNegativeL1(bias / step)
    return UnfoldedAutoencoder(
        torch.unsqueeze(atoms, -1),
        penalty,
        n_unfold=1,
        step_size=step,
        likelihood=likelihood,
        padding="none",
    )

"""Observations of known latents, for the tests of latent problems and their solvers."""

import torch

from calepin.generators import LatentProblem, Sine
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.problem import Problem

F64 = torch.float64
SINE = Sine(2, 8, dtype=F64)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def planted(generator, *, n=12, m=24, scale=1.0, likelihood=None, **options):
    """Return a problem whose observations are exact means, and the latents behind them."""
    atoms = scale * draw(generator.n_coefficients, m, seed=1)
    z = draw(n, generator.latent_dim, seed=2)
    likelihood = Gaussian() if likelihood is None else likelihood
    y = likelihood.mean(generator(z) @ atoms)
    y = y if isinstance(likelihood, Gaussian) else y.round()
    return LatentProblem(Problem(Dense(atoms), likelihood, y), generator, **options), z

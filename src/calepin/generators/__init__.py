"""Coefficient priors: a generator G maps a short latent z to the coefficients of a dictionary.

    y ~ family( mean = f^{-1}(eta) ),        eta = A G(z) + offset

A generator is any callable that maps latents (n, k) to coefficients (n, n_coefficients), each sample
on its own: a plain function of tensors or an ``nn.Module``. Three attributes are optional:

- ``latent_dim`` (int), k; without it, k is that of the first linear layer, or passed as an argument;
- ``linearise(z)``, which returns G(z) and its Jacobian (n, k, n_coefficients) in closed form;
- ``initial_latents(problem)``, which returns a better start for the latent solvers than a random one.
"""

from calepin.generators.base import Generator, check_generator, latent_dimension, linearise
from calepin.generators.families import GroupSparse, KSparse, PolynomialSine, ReLUNet, Sine
from calepin.generators.files import load_generator, save_generator
from calepin.generators.identifiability import Identifiability, identifiability, samples_needed
from calepin.generators.latent_problem import LatentProblem
from calepin.generators.truncate import truncate

__all__ = [
    "Generator",
    "GroupSparse",
    "Identifiability",
    "KSparse",
    "LatentProblem",
    "PolynomialSine",
    "ReLUNet",
    "Sine",
    "check_generator",
    "identifiability",
    "latent_dimension",
    "linearise",
    "load_generator",
    "samples_needed",
    "save_generator",
    "truncate",
]

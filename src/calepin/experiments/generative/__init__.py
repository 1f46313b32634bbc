"""Dictionary learning under generative coefficient priors, 2022: a module a figure or theorem."""

from calepin.experiments.generative.convergence import GEN_CONVERGENCE
from calepin.experiments.generative.landscape import GEN_LANDSCAPE

EXPERIMENTS = (GEN_CONVERGENCE, GEN_LANDSCAPE)

__all__ = ["EXPERIMENTS"]

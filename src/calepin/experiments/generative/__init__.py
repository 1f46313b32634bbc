"""Dictionary learning under generative coefficient priors, 2022: a module a figure or theorem."""

from calepin.experiments.generative.landscape import GEN_LANDSCAPE

EXPERIMENTS = (GEN_LANDSCAPE,)

__all__ = ["EXPERIMENTS"]

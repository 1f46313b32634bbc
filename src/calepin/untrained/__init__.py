"""Untrained networks: the weights of a network are fitted to one observation at a time."""

from calepin.untrained.consistency import data_consistent
from calepin.untrained.fit import FitProgress, UntrainedSolution, fit_untrained
from calepin.untrained.optimizers import LBFGS, Adam, GradientDescent, Optimizer
from calepin.untrained.weighting import Weighted, weighted

__all__ = [
    "LBFGS",
    "Adam",
    "FitProgress",
    "GradientDescent",
    "Optimizer",
    "UntrainedSolution",
    "Weighted",
    "data_consistent",
    "fit_untrained",
    "weighted",
]

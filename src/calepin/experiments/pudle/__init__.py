"""Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022: a module a figure."""

from calepin.experiments.pudle.convergence import PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS

EXPERIMENTS = (PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS)

__all__ = ["EXPERIMENTS"]

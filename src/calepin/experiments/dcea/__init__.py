"""Tolooshams et al., "Convolutional dictionary learning based auto-encoders", 2020: one module per figure."""

from calepin.experiments.dcea.misspecified import DCEA_MISSPECIFIED
from calepin.experiments.dcea.simulated import DCEA_SIMULATED
from calepin.experiments.dcea.untied import DCEA_UNTIED

EXPERIMENTS = (DCEA_SIMULATED, DCEA_UNTIED, DCEA_MISSPECIFIED)

__all__ = ["EXPERIMENTS"]

"""Tolooshams et al., "Convolutional dictionary learning based auto-encoders", 2020: one module per figure."""

from calepin.experiments.dcea.misspecified import DCEA_MISSPECIFIED
from calepin.experiments.dcea.simulated import DCEA_SIMULATED
from calepin.experiments.dcea.untied import DCEA_UNTIED
from calepin.experiments.dcea.whisker import DCEA_WHISKER

EXPERIMENTS = (DCEA_SIMULATED, DCEA_UNTIED, DCEA_MISSPECIFIED, DCEA_WHISKER)

__all__ = ["EXPERIMENTS"]

"""Tolooshams et al., "Convolutional dictionary learning based auto-encoders", 2020: one module per figure."""

from calepin.experiments.dcea.misspecified import DCEA_MISSPECIFIED
from calepin.experiments.dcea.poisson import DCEA_POISSON
from calepin.experiments.dcea.reference import DCEA_REFERENCE
from calepin.experiments.dcea.sea import DCEA_SEA
from calepin.experiments.dcea.simulated import DCEA_SIMULATED
from calepin.experiments.dcea.untied import DCEA_UNTIED
from calepin.experiments.dcea.whisker import DCEA_WHISKER

EXPERIMENTS = (
    DCEA_REFERENCE,
    DCEA_POISSON,
    DCEA_SIMULATED,
    DCEA_UNTIED,
    DCEA_MISSPECIFIED,
    DCEA_WHISKER,
    DCEA_SEA,
)

__all__ = ["EXPERIMENTS"]

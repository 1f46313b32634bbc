"""Tolooshams et al., "Convolutional dictionary learning based auto-encoders", 2020: one module per figure."""

from calepin_papers.dcea.clusters import DCEA_CLUSTERS
from calepin_papers.dcea.misspecified import DCEA_MISSPECIFIED
from calepin_papers.dcea.poisson import DCEA_POISSON
from calepin_papers.dcea.reference import DCEA_REFERENCE
from calepin_papers.dcea.sea import DCEA_SEA
from calepin_papers.dcea.simulated import DCEA_SIMULATED
from calepin_papers.dcea.table import DCEA_TABLE
from calepin_papers.dcea.untied import DCEA_UNTIED
from calepin_papers.dcea.whisker import DCEA_WHISKER

EXPERIMENTS = (
    DCEA_REFERENCE,
    DCEA_POISSON,
    DCEA_TABLE,
    DCEA_SIMULATED,
    DCEA_UNTIED,
    DCEA_MISSPECIFIED,
    DCEA_WHISKER,
    DCEA_CLUSTERS,
    DCEA_SEA,
)

__all__ = ["EXPERIMENTS"]

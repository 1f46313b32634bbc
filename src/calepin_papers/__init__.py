"""One package for each paper, one module for each figure or theorem; `EXPERIMENTS` holds all by name.

The papers are customers of the library: they import public names of `calepin` alone, and `calepin reproduce`
finds them by the entry point ``calepin.experiments``.
"""

from calepin.experiments import Experiment
from calepin_papers import dcea, generative, pudle, untrained_networks
from calepin_papers.classical.recovery import CLASSICAL_RECOVERY

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {
    entry.name: entry
    for entry in (
        CLASSICAL_RECOVERY,
        *pudle.EXPERIMENTS,
        *generative.EXPERIMENTS,
        *dcea.EXPERIMENTS,
        *untrained_networks.EXPERIMENTS,
    )
}
"""Every experiment by its name on the command line of ``calepin reproduce``."""

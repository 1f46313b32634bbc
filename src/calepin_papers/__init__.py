"""One package for each paper, one module for each figure or theorem; `EXPERIMENTS` holds all by name.

The papers are customers of the library: they import public names of `calepin` alone, and `calepin reproduce`
finds them by the entry point ``calepin.experiments``.
"""

from calepin.experiments import Experiment, Item
from calepin_papers import dcea, generative, pudle, untrained_networks
from calepin_papers.classical.recovery import CLASSICAL_RECOVERY
from calepin_papers.dcea.coverage import ITEMS as DCEA_ITEMS
from calepin_papers.generative.coverage import ITEMS as GENERATIVE_ITEMS
from calepin_papers.pudle.coverage import ITEMS as PUDLE_ITEMS
from calepin_papers.untrained_networks.coverage import ITEMS as UNTRAINED_ITEMS

__all__ = ["EXPERIMENTS", "ITEMS"]

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

ITEMS: tuple[Item, ...] = (*PUDLE_ITEMS, *DCEA_ITEMS, *GENERATIVE_ITEMS, *UNTRAINED_ITEMS)
"""Every item of the papers: figures, tables, theorems, algorithms, settings, data sets and baselines."""

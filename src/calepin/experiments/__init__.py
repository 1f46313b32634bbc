"""One package per paper, one module per figure; `EXPERIMENTS` holds them all by name."""

from calepin.experiments import dcea, generative, pudle, untrained
from calepin.experiments.classical import CLASSICAL_RECOVERY
from calepin.experiments.registry import Claim, Experiment, Findings, Run, find, perform

EXPERIMENTS: dict[str, Experiment] = {
    entry.name: entry
    for entry in (
        CLASSICAL_RECOVERY,
        *pudle.EXPERIMENTS,
        *generative.EXPERIMENTS,
        *dcea.EXPERIMENTS,
        *untrained.EXPERIMENTS,
    )
}
"""Every experiment by the name that ``calepin reproduce`` knows it by."""

__all__ = ["EXPERIMENTS", "Claim", "Experiment", "Findings", "Run", "find", "perform"]

"""One module per paper; `EXPERIMENTS` holds them all by name."""

from calepin.experiments.classical import CLASSICAL_RECOVERY
from calepin.experiments.pudle import PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS
from calepin.experiments.registry import Claim, Experiment, Findings, Run, find, perform

EXPERIMENTS: dict[str, Experiment] = {
    entry.name: entry for entry in (CLASSICAL_RECOVERY, PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS)
}
"""Every experiment by the name that ``calepin reproduce`` knows it by."""

__all__ = ["EXPERIMENTS", "Claim", "Experiment", "Findings", "Run", "find", "perform"]

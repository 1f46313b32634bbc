"""Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022: a module a figure."""

from calepin.experiments.pudle.convergence import PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS
from calepin.experiments.pudle.denoise import PUDLE_DENOISE
from calepin.experiments.pudle.distances import PUDLE_GLOBAL
from calepin.experiments.pudle.learning import PUDLE_LEARNING
from calepin.experiments.pudle.recovery import PUDLE_RECOVERY

EXPERIMENTS = (
    PUDLE_CODE_CONVERGENCE,
    PUDLE_GRADIENTS,
    PUDLE_GLOBAL,
    PUDLE_LEARNING,
    PUDLE_RECOVERY,
    PUDLE_DENOISE,
)

__all__ = ["EXPERIMENTS"]

"""Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022: a module a figure."""

from calepin_papers.pudle.convergence import PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS
from calepin_papers.pudle.denoise import PUDLE_DENOISE
from calepin_papers.pudle.distances import PUDLE_GLOBAL
from calepin_papers.pudle.learning import PUDLE_LEARNING
from calepin_papers.pudle.recovery import PUDLE_RECOVERY

EXPERIMENTS = (
    PUDLE_CODE_CONVERGENCE,
    PUDLE_GRADIENTS,
    PUDLE_GLOBAL,
    PUDLE_LEARNING,
    PUDLE_RECOVERY,
    PUDLE_DENOISE,
)

__all__ = ["EXPERIMENTS"]

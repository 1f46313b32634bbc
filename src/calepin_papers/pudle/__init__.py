"""Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022: a module a figure."""

from calepin_papers.pudle.constants import PUDLE_CONSTANTS
from calepin_papers.pudle.convergence import PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS
from calepin_papers.pudle.denoise import PUDLE_DENOISE
from calepin_papers.pudle.distances import PUDLE_GLOBAL
from calepin_papers.pudle.learning import PUDLE_LEARNING
from calepin_papers.pudle.noise import PUDLE_NOISE
from calepin_papers.pudle.optimisers import PUDLE_OPTIMISERS
from calepin_papers.pudle.recovery import PUDLE_RECOVERY
from calepin_papers.pudle.sparsity import PUDLE_SPARSITY, PUDLE_SPORCO
from calepin_papers.pudle.support import PUDLE_SUPPORT

EXPERIMENTS = (
    PUDLE_SUPPORT,
    PUDLE_CODE_CONVERGENCE,
    PUDLE_GRADIENTS,
    PUDLE_CONSTANTS,
    PUDLE_GLOBAL,
    PUDLE_LEARNING,
    PUDLE_OPTIMISERS,
    PUDLE_NOISE,
    PUDLE_RECOVERY,
    PUDLE_SPARSITY,
    PUDLE_SPORCO,
    PUDLE_DENOISE,
)

__all__ = ["EXPERIMENTS"]

"""What the code behind an observation is, given everything else.

Here are the iterative solvers, in torch. The compiled exact coders are in `calepin.solvers.coders`,
which is not imported here because it needs numba.
"""

from calepin.solvers.latent import Adam, Decoded, LatentProblem, LevenbergMarquardt, decode
from calepin.solvers.loop import Solution, Solver, solve
from calepin.solvers.proximal import FISTA, IHT, ISTA

__all__ = [
    "FISTA",
    "IHT",
    "ISTA",
    "Adam",
    "Decoded",
    "LatentProblem",
    "LevenbergMarquardt",
    "Solution",
    "Solver",
    "decode",
    "solve",
]

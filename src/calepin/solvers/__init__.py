"""What the code behind an observation is, given everything else.

Here are the iterative solvers, in torch. The compiled exact coders are in `calepin.solvers.coders.encode`,
which is not imported here because it needs numba.
"""

from calepin.solvers.decode import Adam, Decoded, LatentProblem, LevenbergMarquardt, decode
from calepin.solvers.proximal import FISTA, IHT, ISTA
from calepin.solvers.solve import Solution, Solver, solve

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

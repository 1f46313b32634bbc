"""What the code behind an observation is, given everything else.

Here are the iterative solvers, in torch. The compiled exact coders are in `calepin.solvers.coders.encode`,
which is not imported here because it needs numba.
"""

from calepin.solvers.decode import Decoded, LatentSolver, decode
from calepin.solvers.first_order import LBFGS, Adam, GradientDescent, Optimizer
from calepin.solvers.iterate import Iteration, Solution, Solver
from calepin.solvers.levenberg_marquardt import LevenbergMarquardt
from calepin.solvers.proximal import FISTA, IHT, ISTA
from calepin.solvers.solve import solve

__all__ = [
    "FISTA",
    "IHT",
    "ISTA",
    "LBFGS",
    "Adam",
    "Decoded",
    "GradientDescent",
    "Iteration",
    "LatentSolver",
    "LevenbergMarquardt",
    "Optimizer",
    "Solution",
    "Solver",
    "decode",
    "solve",
]

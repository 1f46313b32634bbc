"""What the code behind an observation is, given everything else: one loop, its iterations, the coders."""

from calepin.solvers.coders.coder import Coder, Codes
from calepin.solvers.coders.convolutional_lasso import ConvolutionalLassoCoder, convolutional_encode
from calepin.solvers.coders.convolutional_pursuit import (
    ConvolutionalPursuitCoder,
    convolutional_pursuit,
    refit_codes,
)
from calepin.solvers.coders.encode import dense_problem, sparse_encode
from calepin.solvers.coders.lasso import LassoCoder
from calepin.solvers.coders.proximal import ProximalCoder
from calepin.solvers.coders.pursuit import PursuitCoder
from calepin.solvers.coders.thresholding import IHTCoder
from calepin.solvers.decode import Adam, Decoded, LatentProblem, LevenbergMarquardt, decode
from calepin.solvers.proximal import FISTA, IHT, ISTA
from calepin.solvers.solve import Solution, Solver, solve

__all__ = [
    "FISTA",
    "IHT",
    "ISTA",
    "Adam",
    "Coder",
    "Codes",
    "ConvolutionalLassoCoder",
    "ConvolutionalPursuitCoder",
    "Decoded",
    "IHTCoder",
    "LassoCoder",
    "LatentProblem",
    "LevenbergMarquardt",
    "ProximalCoder",
    "PursuitCoder",
    "Solution",
    "Solver",
    "convolutional_encode",
    "convolutional_pursuit",
    "decode",
    "dense_problem",
    "refit_codes",
    "solve",
    "sparse_encode",
]

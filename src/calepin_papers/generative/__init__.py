"""Dictionary learning under generative coefficient priors, 2022: a module a figure or theorem."""

from calepin_papers.generative.convergence import GEN_CONVERGENCE
from calepin_papers.generative.correlation import GEN_CORRELATION
from calepin_papers.generative.landscape import GEN_LANDSCAPE
from calepin_papers.generative.mnist import GEN_MNIST_DENOISE, GEN_MNIST_TRANSFER
from calepin_papers.generative.retrain import GEN_RETRAIN
from calepin_papers.generative.sparse import GEN_SPARSE
from calepin_papers.generative.synthetic import GEN_DEPENDENCIES, GEN_GROUP

EXPERIMENTS = (
    GEN_DEPENDENCIES,
    GEN_GROUP,
    GEN_MNIST_DENOISE,
    GEN_MNIST_TRANSFER,
    GEN_CONVERGENCE,
    GEN_CORRELATION,
    GEN_LANDSCAPE,
    GEN_RETRAIN,
    GEN_SPARSE,
)

__all__ = ["EXPERIMENTS"]

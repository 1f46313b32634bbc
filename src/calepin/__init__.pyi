from .core.errors import FileFormatError as FileFormatError
from .core.errors import IncompatibleError as IncompatibleError
from .datasets.correlated_noise import CorrelatedNoise as CorrelatedNoise
from .datasets.noise import GaussianNoise as GaussianNoise
from .datasets.noise import PoissonGaussianNoise as PoissonGaussianNoise
from .datasets.noise import PoissonNoise as PoissonNoise
from .datasets.noise import VaryingGaussianNoise as VaryingGaussianNoise
from .estimators.convolutional import ConvolutionalDictionaryLearner as ConvolutionalDictionaryLearner
from .estimators.dictionary import DictionaryLearner as DictionaryLearner
from .estimators.generative import GenerativeDictionaryLearner as GenerativeDictionaryLearner
from .estimators.unfolded import UnfoldedDictionaryLearner as UnfoldedDictionaryLearner
from .imaging.denoising import denoise as denoise
from .imaging.result import DenoiseResult as DenoiseResult
from .problem import Problem as Problem
from .reconstruction.reconstructor import UntrainedReconstructor as UntrainedReconstructor
from .restoration.restoring import restore as restore
from .restoration.result import RestoreResult as RestoreResult
from .solvers.coders.encode import sparse_encode as sparse_encode
from .solvers.solve import solve as solve

__version__: str

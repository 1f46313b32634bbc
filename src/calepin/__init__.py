"""calepin: learn dictionaries and recover signals.

    y ~ family(mean = link^-1(A x + offset)),   x = D z  (sparse code z)

The names below load their modules on first use, so that ``import calepin`` costs little more than
``import torch``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calepin.errors import FileFormatError, IncompatibleError
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner
    from calepin.estimators.dictionary import DictionaryLearner
    from calepin.estimators.generative import GenerativeDictionaryLearner
    from calepin.estimators.reconstruction import UntrainedReconstructor
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner
    from calepin.imaging.denoise import DenoiseResult, denoise
    from calepin.imaging.learned import denoise_with
    from calepin.problem import Problem
    from calepin.solvers import solve
    from calepin.solvers.coders import sparse_encode

__version__ = "0.1.0"

_HOME = {
    "ConvolutionalDictionaryLearner": "calepin.estimators.convolutional",
    "DenoiseResult": "calepin.imaging.denoise",
    "DictionaryLearner": "calepin.estimators.dictionary",
    "FileFormatError": "calepin.errors",
    "GenerativeDictionaryLearner": "calepin.estimators.generative",
    "IncompatibleError": "calepin.errors",
    "Problem": "calepin.problem",
    "UnfoldedDictionaryLearner": "calepin.estimators.unfolded",
    "UntrainedReconstructor": "calepin.estimators.reconstruction",
    "denoise": "calepin.imaging.denoise",
    "denoise_with": "calepin.imaging.learned",
    "solve": "calepin.solvers",
    "sparse_encode": "calepin.solvers.coders",
}

__all__ = [
    "ConvolutionalDictionaryLearner",
    "DenoiseResult",
    "DictionaryLearner",
    "FileFormatError",
    "GenerativeDictionaryLearner",
    "IncompatibleError",
    "Problem",
    "UnfoldedDictionaryLearner",
    "UntrainedReconstructor",
    "__version__",
    "denoise",
    "denoise_with",
    "solve",
    "sparse_encode",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calepin' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

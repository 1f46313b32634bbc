"""scikit-learn style estimators: what most users touch."""

from calepin.estimators.convolutional import ConvolutionalDictionaryLearner
from calepin.estimators.dictionary import DictionaryLearner
from calepin.estimators.generative import GenerativeDictionaryLearner, UnderdeterminedWarning
from calepin.estimators.reconstruction import UntrainedReconstructor
from calepin.estimators.unfolded import UnfoldedDictionaryLearner

__all__ = [
    "ConvolutionalDictionaryLearner",
    "DictionaryLearner",
    "GenerativeDictionaryLearner",
    "UnderdeterminedWarning",
    "UnfoldedDictionaryLearner",
    "UntrainedReconstructor",
]

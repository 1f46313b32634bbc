"""scikit-learn style estimators: what most users touch."""

from calepin.estimators.dictionary import DictionaryLearner
from calepin.estimators.generative import GenerativeDictionaryLearner, UnderdeterminedWarning
from calepin.estimators.unfolded import UnfoldedDictionaryLearner

__all__ = [
    "DictionaryLearner",
    "GenerativeDictionaryLearner",
    "UnderdeterminedWarning",
    "UnfoldedDictionaryLearner",
]

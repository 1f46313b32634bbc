"""scikit-learn style estimators: what most users touch."""

from calepin.estimators.dictionary import DictionaryLearner

__all__ = ["DictionaryLearner"]

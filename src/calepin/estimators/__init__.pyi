from .convolutional import ConvolutionalDictionaryLearner as ConvolutionalDictionaryLearner
from .dictionary import DictionaryLearner as DictionaryLearner
from .generative import (
    GenerativeDictionaryLearner as GenerativeDictionaryLearner,
)
from .generative import (
    UnderdeterminedWarning as UnderdeterminedWarning,
)
from .unfolded import UnfoldedDictionaryLearner as UnfoldedDictionaryLearner

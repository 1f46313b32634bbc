from .priors import GroupDenoiser as GroupDenoiser
from .priors import TVDenoiser as TVDenoiser
from .priors import WaveletDenoiser as WaveletDenoiser
from .restore import PRIORS as PRIORS
from .restore import restore as restore
from .result import RestoreResult as RestoreResult

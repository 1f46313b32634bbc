from .priors import GroupDenoiser as GroupDenoiser
from .priors import TVDenoiser as TVDenoiser
from .priors import WaveletDenoiser as WaveletDenoiser
from .restoring import PRIORS as PRIORS
from .restoring import restore as restore
from .result import RestoreResult as RestoreResult
from .scan import default_prior as default_prior
from .scan import restore_scan as restore_scan

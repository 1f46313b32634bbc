from .clp import compress as compress
from .clp import decompress as decompress
from .clp import read_clp as read_clp
from .clp import write_clp as write_clp
from .coding import Quantiser as Quantiser
from .rate_distortion import RateDistortion as RateDistortion
from .rate_distortion import rate_distortion as rate_distortion

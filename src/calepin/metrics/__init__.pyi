from .atoms import (
    dictionary_error as dictionary_error,
)
from .atoms import (
    match_atoms as match_atoms,
)
from .atoms import (
    recovered_fraction as recovered_fraction,
)
from .codes import (
    SupportRecovery as SupportRecovery,
)
from .codes import (
    code_error as code_error,
)
from .codes import (
    duality_gap as duality_gap,
)
from .codes import (
    mutual_coherence as mutual_coherence,
)
from .codes import (
    support_recovery as support_recovery,
)
from .filters import FilterMatch as FilterMatch
from .filters import filter_error as filter_error
from .filters import match_filters as match_filters
from .images import psnr as psnr
from .images import ssim as ssim

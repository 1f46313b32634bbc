from .consistency import data_consistent as data_consistent
from .fit import (
    FitProgress as FitProgress,
)
from .fit import (
    UntrainedSolution as UntrainedSolution,
)
from .fit import (
    fit_untrained as fit_untrained,
)
from .kspace import count_slices as count_slices
from .kspace import read_kspace as read_kspace
from .kspace import read_sensitivities as read_sensitivities
from .kspace import write_cfl as write_cfl
from .reconstructor import UntrainedReconstructor as UntrainedReconstructor
from .scans import Reconstruction as Reconstruction
from .scans import Scan as Scan
from .scans import reconstruct_scan as reconstruct_scan
from .scans import scan_image as scan_image
from .scans import scan_kspace as scan_kspace
from .spectrum import (
    Spectrum as Spectrum,
)
from .spectrum import (
    jacobian_spectrum as jacobian_spectrum,
)
from .spectrum import (
    kernel_weights as kernel_weights,
)
from .spectrum import (
    low_frequency_energy as low_frequency_energy,
)
from .spectrum import (
    measurements_needed as measurements_needed,
)
from .spectrum import (
    recovery_bound as recovery_bound,
)
from .spectrum import (
    spectral_drift as spectral_drift,
)
from .spectrum import (
    subspace_energy as subspace_energy,
)
from .spectrum import (
    trigonometric_basis as trigonometric_basis,
)
from .trajectories import read_samples as read_samples
from .trajectories import read_trajectory as read_trajectory
from .trajectories import scan_trajectory as scan_trajectory
from .weighting import Weighted as Weighted
from .weighting import weighted as weighted

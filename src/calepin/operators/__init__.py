"""Linear operators with adjoints: dictionaries and measurements."""

from calepin.operators.base import Compose, LinearOperator
from calepin.operators.bayer import Bayer
from calepin.operators.blur import Blur, Downsample
from calepin.operators.conv import ConvDictionary
from calepin.operators.dense import Dense
from calepin.operators.diagonal import Diagonal
from calepin.operators.fourier import (
    MultiCoilMRI,
    centred_fft,
    centred_ifft,
    column_mask,
    density_weights,
    estimate_sensitivities,
    root_sum_of_squares,
    variable_density_mask,
)
from calepin.operators.identity import Identity
from calepin.operators.mask import Mask
from calepin.operators.matrix import Matrix
from calepin.operators.non_cartesian import NonCartesianFourier, radial_trajectory
from calepin.operators.radon import Radon
from calepin.operators.sensitivities import (
    Sensitivities,
    calibration_size,
    espirit_maps,
    kspace_noise,
)
from calepin.operators.sketch import GaussianSketch
from calepin.operators.transforms import SubsampledDCT, SubsampledHadamard
from calepin.operators.wavelet import Wavelet

__all__ = [
    "Bayer",
    "Blur",
    "Compose",
    "ConvDictionary",
    "Dense",
    "Diagonal",
    "Downsample",
    "GaussianSketch",
    "Identity",
    "LinearOperator",
    "Mask",
    "Matrix",
    "MultiCoilMRI",
    "NonCartesianFourier",
    "Radon",
    "Sensitivities",
    "SubsampledDCT",
    "SubsampledHadamard",
    "Wavelet",
    "calibration_size",
    "centred_fft",
    "centred_ifft",
    "column_mask",
    "density_weights",
    "espirit_maps",
    "estimate_sensitivities",
    "kspace_noise",
    "radial_trajectory",
    "root_sum_of_squares",
    "variable_density_mask",
]

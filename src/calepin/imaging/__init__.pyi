from .by_dictionary import DenoiseResult as DenoiseResult
from .by_dictionary import denoise as denoise
from .by_network import denoise_with as denoise_with
from .by_photons import denoise_counts as denoise_counts
from .noise import estimate_noise as estimate_noise
from .patches import random_patches as random_patches
from .training import (
    DenoiserSettings as DenoiserSettings,
)
from .training import (
    new_denoiser as new_denoiser,
)
from .training import (
    train_denoiser as train_denoiser,
)

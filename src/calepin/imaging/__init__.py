"""Pictures restored by dictionaries: `calepin.denoise`, and the patches, noise level and groups it needs."""

from calepin.imaging.noise import estimate_noise

__all__ = ["estimate_noise"]

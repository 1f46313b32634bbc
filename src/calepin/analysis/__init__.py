"""Diagnostics: how near a learned dictionary, or a restored picture, is to the truth."""

from calepin.analysis.pictures import psnr, ssim
from calepin.analysis.recovery import dictionary_error, match_atoms, recovered_share

__all__ = ["dictionary_error", "match_atoms", "psnr", "recovered_share", "ssim"]

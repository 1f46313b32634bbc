"""Diagnostics: how near a learned dictionary is to the truth."""

from calepin.analysis.recovery import dictionary_error, match_atoms

__all__ = ["dictionary_error", "match_atoms"]

"""Compiled code (numba) and batched torch behind the coders."""

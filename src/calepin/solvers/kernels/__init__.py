"""Compiled (numba) and batched (torch) implementations of the coders."""

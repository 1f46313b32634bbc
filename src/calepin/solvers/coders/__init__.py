"""Coders: one protocol, from a problem to its codes."""

"""Coders, which map a problem to its codes by one common interface."""

"""How the weights that calepin ships were made: one runnable module a file.

The networks for photons come out of ``calepin reproduce dcea-poisson --scale paper``
(`calepin_papers.dcea.training`).
"""

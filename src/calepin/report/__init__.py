"""Figures and pictures of atoms."""

from calepin.report.atoms import atom_curves, atom_tiles, patch_shape
from calepin.report.figures import Curve, before_after, curves, save_figure, sheet

__all__ = [
    "Curve",
    "atom_curves",
    "atom_tiles",
    "before_after",
    "curves",
    "patch_shape",
    "save_figure",
    "sheet",
]

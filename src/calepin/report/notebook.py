"""Small HTML for notebooks: what a result or a learner shows of itself. It needs no Jinja2."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calepin.report.atoms import atom_figure, atom_tiles, patch_shape
from calepin.report.figures import gray_limits
from calepin.report.page import cell_text, data_uri

__all__ = ["atoms_snippet", "image_snippet", "snippet"]

MOST_TILES, MOST_CURVES = 100, 12  # more atoms would make a notebook slow, and are not shown
MOST_ENTRIES = 5000  # of an atom
WIDTH = 480  # pixels


def snippet(title: str, values: Mapping[str, Any], figures: Mapping[str, Figure | NDArray]) -> str:
    """Return a title, a line of named values, and figures with their captions as HTML, all escaped."""
    line = ", ".join(f"{escape(name)} {escape(cell_text(value))}" for name, value in values.items())
    images = "".join(
        f'<figure style="display:inline-block;margin:4px 12px 4px 0;vertical-align:top">'
        f'<img src="{data_uri(figure)}" alt="{escape(caption)}" style="max-width:{WIDTH}px;background:#fff">'
        f'<figcaption style="font-size:0.85em">{escape(caption)}</figcaption></figure>'
        for caption, figure in figures.items()
    )
    heading = f"<strong>{escape(title)}</strong>" if title else ""
    return f'<div class="calepin">{heading} {line}<div>{images}</div></div>'


def atoms_snippet(
    atoms: NDArray[np.floating], name: str = "atoms", **labels: Any
) -> dict[str, Figure | NDArray]:
    """Return a figure of the first atoms, or filters, by its caption; nothing if they cannot be drawn.

    `labels` are the sampling rate and channel names of filters, for `atom_figure`.
    """
    if atoms.ndim not in (2, 3, 4) or atoms[0].size > MOST_ENTRIES:
        return {}
    tiles = atoms.ndim == 4 or (atoms.ndim == 2 and patch_shape(atoms.shape[1]) is not None)
    shown = atoms[: MOST_TILES if tiles else MOST_CURVES]
    count = str(len(atoms)) if len(shown) == len(atoms) else f"the first {len(shown)} of {len(atoms)}"
    if atoms.ndim == 2 and tiles:
        return {f"{count} {name}": atom_tiles(shown, width=WIDTH)}
    return {f"{count} {name}": atom_figure(shown, **labels)}


def image_snippet(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a small copy of an image, with pixels in [0, 1]."""
    step = max(1, -(-max(image.shape[:2]) // WIDTH))
    small = np.asarray(image[::step, ::step], np.float64)
    low, high = gray_limits([small])
    return np.clip((small - low) / (high - low), 0, 1)

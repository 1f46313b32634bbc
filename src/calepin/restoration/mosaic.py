"""A first colour image from a Bayer mosaic, by interpolation along edges.

Green is interpolated along rows and along columns, corrected by the second difference of the other colour
(Hamilton and Adams, US patent 5629734, 1997). Each pixel takes both, weighted by how smooth the difference of
colours is along either direction in its neighbourhood (a soft form of the decision of Menon, Andriani and
Calvagno, "Demosaicing with directional filtering and a posteriori decision", 2007). Red and blue are
interpolated as differences to green, and to each other, with the same weights.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["along_edges"]

_MEAN = (0.5, 0.0, 0.5)
_SECOND = (-0.25, 0.0, 0.5, 0.0, -0.25)
_WINDOW = 5  # pixels per side of the neighbourhood
_FLAT = 1e-3  # of the range of the mosaic: smaller differences tell no direction

Plane = NDArray[np.float64]


def along_edges(y: Plane, colour: NDArray[np.integer]) -> Plane:
    """Return colours (3, h, w) of a mosaic.

    Parameters
    ----------
    y : array (h, w)
        One colour of each pixel.
    colour : integer array (h, w)
        Which colour that is: 0 red, 1 green, 2 blue.
    """
    green = colour == 1
    guesses = [np.where(green, y, _filtered(y, _MEAN, axis) + _filtered(y, _SECOND, axis)) for axis in (1, 0)]
    roughness = [_roughness(y - guess, ~green, axis) for guess, axis in zip(guesses, (1, 0), strict=True)]
    floor = _FLAT * (float(np.ptp(y)) or 1.0)
    power = [1 / (rough + floor) ** 2 for rough in roughness]
    weight = power[0] / (power[0] + power[1])  # of rows
    out = np.empty((3, *y.shape))
    out[1] = np.where(green, y, weight * guesses[0] + (1 - weight) * guesses[1])
    for c in (0, 2):
        own = colour == c
        difference = np.where(own, y - out[1], 0)
        in_row = own.any(axis=1)[:, None]
        beside = np.where(in_row, _filtered(difference, _MEAN, 1), _filtered(difference, _MEAN, 0))
        out[c] = np.where(own, y, out[1] + beside)
    at_green = np.where(green, out[0] - out[2], 0)  # red minus blue
    along = [_filtered(at_green, _MEAN, axis) for axis in (1, 0)]
    difference = weight * along[0] + (1 - weight) * along[1]
    out[0] = np.where(colour == 2, y + difference, out[0])
    out[2] = np.where(colour == 0, y - difference, out[2])
    return out


def _filtered(plane: Plane, taps: tuple[float, ...], axis: int) -> Plane:
    return ndimage.correlate1d(plane, taps, axis=axis, mode="mirror")  # which keeps the order of colours


def _roughness(difference: Plane, known: NDArray[np.bool_], axis: int) -> Plane:
    """Return the mean change of a difference of colours along an axis, around each pixel."""
    change = np.abs(_filtered(difference, (-1.0, 0.0, 0.0, 0.0, 1.0), axis)) / 2
    total, count = (ndimage.uniform_filter(v, _WINDOW, mode="mirror") for v in (change * known, known * 1.0))
    return total / np.maximum(count, 1e-6)

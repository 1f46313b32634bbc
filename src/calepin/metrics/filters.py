"""Metrics of the difference between learned convolutional filters and reference filters.

A convolutional dictionary is identifiable only up to the order, the sign and a shift of its filters, for
which the codes can compensate. All three are matched before the comparison:

    err(h, g) = sqrt( 1 - <h, g>^2 ),        ||h|| = ||g|| = 1

(Agarwal, Anandkumar, Jain and Netrapalli, "Learning sparsely used overcomplete dictionaries via
alternating minimization", 2016; Tolooshams et al., 2020, section 5.2.1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.checks import check_array, check_integer

__all__ = ["FilterMatch", "filter_error", "match_filters"]


@dataclass(frozen=True)
class FilterMatch:
    """The filter matched to each reference filter, with its sign and shift.

    Attributes
    ----------
    order : int array of shape (n_components,)
        Index of the filter that is matched to each reference.
    signs : array of shape (n_components,)
        Sign of each matched filter, 1 or -1.
    shifts : int array of shape (n_components, n_axes)
        Shift of each matched filter along each axis, in entries, towards larger indices.
    errors : array of shape (n_components,)
        Error ``sqrt(1 - <h, g>^2)`` between each reference g and the matched, shifted filter h.
    """

    order: NDArray[np.intp]
    signs: NDArray[np.float64]
    shifts: NDArray[np.intp]
    errors: NDArray[np.float64]

    def align(self, filters: ArrayLike) -> NDArray[np.float64]:
        """Return filters (n_components, channels, *kernel) with the order, signs and shifts of the match.

        Entries that are shifted over an edge are lost. Zeros are inserted at the opposite edge.
        """
        moved = check_array("filters", filters)
        if moved.ndim < 3 or len(moved) != len(self.order):
            raise ValueError(
                f"filters: expected {len(self.order)} of shape (channels, *kernel), got shape {moved.shape}"
            )
        moved = moved[self.order]
        moved = moved * self.signs.reshape(-1, *[1] * (moved.ndim - 1))
        return np.stack([_shift(h, shift) for h, shift in zip(moved, self.shifts, strict=True)])


def match_filters(filters: ArrayLike, reference: ArrayLike, *, max_shift: int | None = 0) -> FilterMatch:
    """Return the best match of filters to reference filters over permutations, signs and shifts.

    The match maximises the sum of the absolute inner products of normalised filters, each at the best shift
    of its pair. This is a linear assignment problem.

    Parameters
    ----------
    filters, reference : array of shape (n_components, channels, *kernel)
        The filters to match and the reference filters. Their norms have no effect.
    max_shift : int or None, default 0
        Largest shift along every axis, in entries. None: no bound.

    Raises
    ------
    ValueError
        If shapes differ, entries are not finite, or `max_shift` is negative.
    """
    from scipy.optimize import linear_sum_assignment

    filters, reference = _check(filters, reference)
    kernel = reference.shape[2:]
    check_integer("max_shift", max_shift, least=0, optional=True)
    products = _correlations(filters, reference)
    if max_shift is not None:
        reach = [min(max_shift, size - 1) for size in kernel]
        middle = tuple(slice(size - 1 - r, size + r) for size, r in zip(kernel, reach, strict=True))
        products = products[(..., *middle)]
    else:
        reach = [size - 1 for size in kernel]
    flat = products.reshape(len(reference), len(filters), -1)
    best = np.abs(flat).argmax(axis=2)
    value = np.take_along_axis(flat, best[..., None], axis=2)[..., 0]
    order = linear_sum_assignment(-np.abs(value))[1]
    rows = np.arange(len(order))
    places = np.unravel_index(best[rows, order], products.shape[2:])
    return FilterMatch(
        order=order,
        signs=np.where(value[rows, order] < 0, -1.0, 1.0),
        shifts=np.stack(places, axis=1) - np.array(reach),
        errors=np.sqrt(np.maximum(1 - value[rows, order] ** 2, 0)),
    )


def filter_error(
    filters: ArrayLike, reference: ArrayLike, *, max_shift: int | None = 0
) -> NDArray[np.float64]:
    """Return the error ``sqrt(1 - <h, g>^2)`` of each reference g and the filter h that is matched to it.

    The arguments are those of `match_filters`. The error is 0 for equal and 1 for orthogonal filters.
    """
    return match_filters(filters, reference, max_shift=max_shift).errors


def _correlations(filters: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inner products (n_reference, n_filters, *(2 kernel - 1)) of unit filters at all shifts.

    Entry ``kernel - 1 + s`` along an axis is for the filter shifted by s.
    """
    axes = tuple(range(2, filters.ndim))
    size = [2 * n - 1 for n in filters.shape[2:]]
    spectra = [np.fft.rfftn(_unit(h), size, axes) for h in (reference, filters)]
    product = np.einsum("ac...,bc...->ab...", spectra[0], spectra[1].conj())
    return np.fft.fftshift(np.fft.irfftn(product, size, axes), axes)


def _unit(filters: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.sqrt((filters**2).sum(axis=tuple(range(1, filters.ndim)), keepdims=True))
    return filters / np.where(norms > 0, norms, 1)


def _shift(h: NDArray[np.float64], shift: NDArray[np.intp]) -> NDArray[np.float64]:
    moved = np.zeros_like(h)
    source = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shift, h.shape[1:], strict=True))
    target = tuple(slice(max(s, 0), n - max(-s, 0)) for s, n in zip(shift, h.shape[1:], strict=True))
    moved[(slice(None), *target)] = h[(slice(None), *source)]
    return moved


def _check(filters: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = check_array("filters", filters), check_array("reference", reference)
    if first.ndim < 3 or first.shape != second.shape:
        raise ValueError(
            "filters and reference: expected the same shape (n_components, channels, *kernel), "
            f"got {first.shape} and {second.shape}"
        )
    return first, second

"""k-space along spokes, spirals or other trajectories: its files, and a scan of it.

    samples       .npy          complex, (n_samples,), (n_coils, n_samples) or (n_coils, n_spokes, n_readout)
                  .cfl + .hdr   BART: dimensions 1, readout, spokes, coils
    trajectory    .npy          real, (n_samples, 2) or (n_spokes, n_readout, 2)
                  .cfl + .hdr   BART: dimensions 3, readout, spokes; the third coordinate is zero

Frequencies are in cycles per field of view, first those along the height, as `NonCartesianFourier` and BART
take them.
"""

import math
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_shape
from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input
from calepin.core.reading import read_npy
from calepin.operators.fourier import root_sum_of_squares
from calepin.operators.non_cartesian import BESIDE, NonCartesianFourier, even_weights
from calepin.reconstruction.kspace import open_cfl
from calepin.reconstruction.scans import KSPACE_LEARNING_RATE, KSPACE_MAX_ITER, Scan, decoder, shown

__all__ = ["read_samples", "read_trajectory", "scan_trajectory"]

READOUT, SPOKES, COILS = 1, 2, 3  # dimensions of BART


def read_samples(path: str | os.PathLike) -> NDArray[np.complexfloating]:
    """Return samples of k-space along a trajectory, (n_coils, n_samples), from ``.npy`` or ``.cfl``.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another format or shape, a damaged file, real samples, NaN or infinity, or only zeros.
    """
    path = Path(path)
    if _is_bart(path):
        sizes, raw = _of_bart(path, {READOUT, SPOKES, COILS}, "samples 1, readout, spokes and coils")
        array = raw.reshape((-1, sizes[COILS]), order="F").T
    else:
        array = read_npy(check_input(path, "k-space"))
        if array.ndim not in (1, 2, 3):
            raise FileFormatError(
                f"{path} holds samples of shape {array.shape}, expected (n_samples,), (n_coils, n_samples) "
                "or (n_coils, n_spokes, n_readout) along a trajectory"
            )
        array = array[None] if array.ndim == 1 else array.reshape(len(array), -1)
    if array.dtype.kind != "c":
        raise FileFormatError(f"{path} holds {array.dtype}, expected complex k-space")
    if not np.isfinite(array).all() or not array.any():
        raise FileFormatError(f"{path}: expected finite samples that are not all zero")
    return np.ascontiguousarray(array)


def read_trajectory(path: str | os.PathLike) -> NDArray[np.float64]:
    """Return the frequencies of samples, (n_samples, 2), from ``.npy`` or ``.cfl``.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another format or shape, a damaged file, complex frequencies, NaN or infinity, or three dimensions.
    """
    path = Path(path)
    if _is_bart(path):
        sizes, raw = _of_bart(path, {0, READOUT, SPOKES}, "the trajectory 3, readout and spokes")
        if sizes[0] != 3 or raw.imag.any() or raw[2::3].any():
            raise FileFormatError(
                f"{path}: expected a trajectory of BART in two dimensions: three real coordinates, the third "
                "one zero"
            )
        array = raw.real.reshape(-1, 3)[:, :2]
    else:
        array = read_npy(check_input(path, "trajectory"))
        if array.ndim not in (2, 3) or array.shape[-1] != 2 or array.dtype.kind not in "iuf":
            raise FileFormatError(
                f"{path} holds {array.dtype} of shape {array.shape}, expected real frequencies (n_samples, "
                "2) or (n_spokes, n_readout, 2)"
            )
        array = array.reshape(-1, 2)
    if not np.isfinite(array).all():
        raise FileFormatError(f"{path} holds NaN or infinity, expected finite frequencies")
    return np.ascontiguousarray(array, np.float64)


def scan_trajectory(
    samples: NDArray[np.complexfloating],
    coordinates: NDArray[np.floating],
    shape: tuple[int, int] | None = None,
) -> Scan:
    """Return the scan of k-space that was sampled along a trajectory, for `calepin.restoration.restore_scan`.

    Parameters
    ----------
    samples : complex array (n_coils, n_samples)
        Samples of one slice, in the unit of the orthonormal transform.
    coordinates : array (n_samples, 2)
        Their frequencies in cycles per field of view, first those along the height.
    shape : (height, width), optional
        Pixels of the image. By default the smallest that has all frequencies.

    Returns
    -------
    Scan
        Without a true image. Its adjoint counts densely sampled parts of k-space once.

    Raises
    ------
    ValueError
        Samples and coordinates that do not fit together or to the shape, or coordinates in other units.
    ModuleNotFoundError
        finufft is missing, which the extra ``calepin[nufft]`` brings.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from calepin.operators import NonCartesianFourier, radial_trajectory
    >>> from calepin.reconstruction import scan_trajectory
    >>> spokes = radial_trajectory((32, 32), 24)
    >>> disc = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j]) < 0.6
    >>> samples = NonCartesianFourier((1, 32, 32), spokes)(torch.from_numpy(disc * 1.0)[None, None])
    >>> scan = scan_trajectory(samples[0].numpy(), spokes.numpy())
    >>> scan.operator.in_shape
    (1, 32, 32)
    """
    check_arguments(scan_trajectory, locals())
    where = np.asarray(coordinates)
    where = where.astype(where.dtype.newbyteorder("="), copy=False)
    if where.ndim != 2 or where.shape[1] != 2 or where.dtype.kind != "f" or not np.isfinite(where).all():
        raise ValueError(
            "coordinates: expected finite frequencies of shape (n_samples, 2), "
            f"got {where.dtype} of {where.shape}"
        )
    if np.ndim(samples) != 2 or np.shape(samples)[1] != len(where):
        raise ValueError(
            f"samples: expected shape (n_coils, {len(where)}), one for each of the coordinates, "
            f"got {np.shape(samples)}"
        )
    if not np.isfinite(samples).all() or not np.any(samples):
        raise ValueError("samples: expected finite samples that are not all zero")
    height, width = _size(where, shape)
    y = torch.from_numpy(np.ascontiguousarray(samples, np.complex64))[None]
    operator = NonCartesianFourier((y.shape[1], height, width), torch.from_numpy(where))
    weights = even_weights(operator)
    scale = float(root_sum_of_squares(operator.adjoint(weights.square() * y)).max())
    return Scan(
        operator,
        y / scale,
        shown(None),
        None,
        len(where) / (height * width),
        KSPACE_LEARNING_RATE,
        KSPACE_MAX_ITER,
        scale,
        weights=weights,
        network=decoder((height, width), y.shape[1], most=16),
    )


def _size(coordinates: NDArray, shape: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size of the image, at least the one that has all frequencies."""
    reach = [float(most) for most in np.abs(coordinates).max(0)]
    for most, unit, factor in (
        (0.5, "cycles per pixel", "the height and width"),
        (math.pi, "radians per pixel", "the height and width, over 2 pi"),
    ):
        if max(reach) <= most * BESIDE:
            raise ValueError(
                f"coordinates: expected cycles per field of view, got at most {max(reach):.4g}: "
                f"probably {unit}, to be multiplied by {factor}"
            )
    least = [max(1, 2 * math.ceil(most / BESIDE)) for most in reach]
    if shape is None:
        return least[0], least[1]
    height, width = check_shape("shape", shape, ndim=2)
    if any(2 * most > side * BESIDE for most, side in zip(reach, (height, width), strict=True)):
        raise ValueError(
            f"shape: expected at least ({least[0]}, {least[1]}) for frequencies up to {reach[0]:.4g} and "
            f"{reach[1]:.4g} cycles per field of view, got ({height}, {width}): other units, or a readout "
            "that is denser than the image needs?"
        )
    return height, width


def _is_bart(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".cfl", ".hdr"):
        raise FileFormatError(f"{path} has suffix {suffix!r}, expected one of .npy, .cfl, .hdr")
    return suffix != ".npy"


def _of_bart(path: Path, used: set[int], what: str) -> tuple[list[int], NDArray[np.complex64]]:
    """Return dimensions and numbers of a file of BART that has no other dimensions than those used."""
    sizes, raw = open_cfl(check_input(path, "k-space"))
    if any(size > 1 for axis, size in enumerate(sizes) if axis not in used):
        raise FileFormatError(f"{path} has dimensions {sizes}, expected those of {what}")
    return sizes, np.array(raw, np.complex64)

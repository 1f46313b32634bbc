"""From an image or k-space to a reconstruction in two calls: what ``calepin reconstruct`` does.

A `Scan` holds measurements: of an image, by an operator with fewer rows than pixels, or k-space with missing
samples. `reconstruct_scan` fits an untrained network to them.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_number, check_one_of
from calepin.core.random import torch_generator
from calepin.datasets.images import Image
from calepin.networks.deep_decoder import DeepDecoder
from calepin.networks.untrained import ComplexPair, UntrainedNetwork
from calepin.operators.base import LinearOperator
from calepin.operators.diagonal import Diagonal
from calepin.operators.fourier import (
    MultiCoilMRI,
    centred_ifft,
    column_mask,
    density_weights,
    root_sum_of_squares,
    variable_density_mask,
)
from calepin.operators.mask import Mask
from calepin.operators.non_cartesian import NonCartesianFourier
from calepin.operators.sketch import GaussianSketch
from calepin.operators.transforms import SubsampledDCT, SubsampledHadamard
from calepin.reconstruction.consistency import data_consistent
from calepin.reconstruction.reconstructor import UntrainedReconstructor
from calepin.reconstruction.weighting import weighted
from calepin.solvers.first_order import Adam

__all__ = ["Reconstruction", "Scan", "reconstruct_scan", "scan_image", "scan_kspace"]

Kind = Literal["gaussian", "hadamard", "dct", "mask"]
Pattern = Literal["points", "columns"]
Pixels = NDArray[np.floating]

OPERATORS: dict[str, Any] = {
    "gaussian": GaussianSketch,
    "hadamard": SubsampledHadamard,
    "dct": SubsampledDCT,
}
LEARNING_RATE, MAX_ITER = 0.02, 300  # for images
KSPACE_LEARNING_RATE, KSPACE_MAX_ITER = 0.03, 400
TRAJECTORY_STEPS = 10  # of conjugate gradients that move images to samples along a trajectory
ALMOST_ALL = 0.99  # some acquired samples may be zero


@dataclass(frozen=True)
class Scan:
    """Measurements, the map from signals to images, and the settings of the fit.

    Attributes
    ----------
    operator
        A, the measurement.
    y
        Measurements (n, *operator.out_shape), scaled so that signals are around 1.
    show
        Maps signals (n, *operator.in_shape) to pixels (h, w) or (h, w, 3) in [0, 1].
    truth
        True pixels, or None if unknown.
    fraction
        Fraction of all samples that was acquired; samples per pixel of a trajectory.
    learning_rate, max_iter
        Settings of the fit.
    scale
        Factor that converts signals to the unit of the file.
    notes
        Preprocessing steps, as text.
    weights
        Weights of the measurements in the fit; None for equal weights.
    network
        Network of the fit; None for the default of `UntrainedReconstructor`.
    """

    operator: LinearOperator
    y: Tensor
    show: Callable[[Tensor], Pixels]
    truth: Pixels | None
    fraction: float
    learning_rate: float
    max_iter: int
    scale: float = 1.0
    notes: tuple[str, ...] = ()
    weights: Tensor | None = None
    network: UntrainedNetwork | None = None


@dataclass(frozen=True)
class Reconstruction:
    """Result of `reconstruct_scan`.

    Attributes
    ----------
    x
        Signals (n, *operator.in_shape); for k-space the complex coil images, divided by `Scan.scale`.
    image
        The signals as pixels in [0, 1].
    adjoint
        Pixels of ``A^H y``, for comparison; for k-space this is the zero-filled image, along a
        trajectory that of samples which are weighted by their density.
    n_iter
        Iterations of the fit.
    residual
        Largest relative residual of the fits, ``||y - A x|| / ||y||``.
    converged
        Whether all fits converged.
    residuals
        Relative residual of each iterate and start, (n_iter + 1, n_fits).
    """

    x: Tensor
    image: Pixels
    adjoint: Pixels
    n_iter: int
    residual: float
    converged: bool
    residuals: NDArray[np.floating]

    def _repr_html_(self) -> str:
        """Return the images and the residual as HTML for notebooks."""
        from calepin.report.notebook import image_snippet, snippet

        figures = {name: image_snippet(getattr(self, name)) for name in ("adjoint", "image")}
        values = {"residual": self.residual, "iterations": self.n_iter, "converged": self.converged}
        return snippet("Reconstruction", values, figures)


def scan_image(
    image: Image,
    kind: Kind = "hadamard",
    *,
    ratio: float = 0.25,
    mask: NDArray | None = None,
    size: int = 128,
    seed: int = 0,
) -> Scan:
    """Reduce an image to `size` pixels along its longer side, and measure each channel separately.

    Parameters
    ----------
    image : Image
        See `calepin.datasets.read_image`.
    kind : {"gaussian", "hadamard", "dct", "mask"}, default "hadamard"
        Measurement operator: a Gaussian matrix, rows of a randomised Hadamard or cosine transform, or pixels.
    ratio : float, default 0.25
        Measurements per pixel, above 0 and at most 1; not used with a mask.
    mask : array of bool, of 0 and 1, of the reduced image's shape (h, w), optional
        Known pixels, for kind "mask". By default they are drawn at random.
    size : int, default 128
        Pixels of the longer side; smaller images are not changed.
    seed : int, default 0
        Seed of the measurement operator.

    Returns
    -------
    Scan

    Raises
    ------
    ValueError
        A setting out of range, or a mask of another shape or with another kind.
    """
    check_arguments(scan_image, locals())
    check_one_of("kind", kind, get_args(Kind))
    check_number("ratio", ratio, above=0, most=1)
    check_integer("size", size)
    if mask is not None and kind != "mask":
        raise ValueError(f"mask: expected kind 'mask' beside it, got {kind!r}")
    pixels = torch.from_numpy(np.asarray(image.pixels, np.float32))
    channels = (pixels if pixels.ndim == 3 else pixels[..., None]).movedim(-1, 0)[:, None]
    x = _reduced(channels, size)
    operator = _operator(kind, tuple(x.shape[1:]), ratio, mask, seed)
    y = operator(x)
    height, width = x.shape[-2:]
    notes = list(image.notes)
    if x.shape != channels.shape:
        notes.append(f"reduced from {channels.shape[-1]} x {channels.shape[-2]} to {width} x {height}")
    padded = getattr(operator, "n_coefficients", height * width)
    if padded != height * width:
        notes.append(f"{height * width} pixels padded with zeros to {padded}, the size of the transform")
    if len(x) > 1:
        notes.append("each colour channel is measured and reconstructed separately")
    measured = int(operator.observed.sum()) if isinstance(operator, Mask) else operator.out_shape[0]
    return Scan(
        operator,
        y,
        _as_pixels,
        _as_pixels(x),
        measured / (height * width),
        LEARNING_RATE,
        MAX_ITER,
        notes=tuple(notes),
    )


def scan_kspace(
    kspace: NDArray[np.complexfloating],
    *,
    acceleration: float | None = None,
    pattern: Pattern = "points",
    mask: NDArray | None = None,
    seed: int = 0,
) -> Scan:
    """Undersample k-space; without `acceleration` and `mask` its zeros are the missing samples.

    If none is missing, the image is the inverse transform of the samples.

    Parameters
    ----------
    kspace : complex array (n_coils, ky, kx)
        k-space of one slice, zero frequency in the centre; see `calepin.reconstruction.read_kspace`.
    acceleration : float, optional
        Undersampling factor: keep one of so many samples of fully sampled k-space.
    pattern : {"points", "columns"}, default "points"
        Samples that are kept with `acceleration`: single ones, denser near the centre, or whole columns.
    mask : array of bool, of 0 and 1, of shape (ky, kx) or (kx,), optional
        Samples, or whole columns, that are kept, instead of `acceleration`.
    seed : int, default 0
        Seed of the undersampling with `acceleration`.

    Returns
    -------
    Scan
        With the true image if k-space is fully sampled, and samples are left out.

    Raises
    ------
    ValueError
        An acceleration for k-space that is not fully sampled, no axis of coils, or an invalid mask.
    """
    check_arguments(scan_kspace, locals())
    check_number("acceleration", acceleration, least=1, optional=True)
    if np.ndim(kspace) != 3:
        raise ValueError(
            f"kspace: expected shape (n_coils, height, width), got {np.shape(kspace)}; "
            "kspace[None] is that of one coil"
        )
    if not np.isfinite(kspace).all() or not np.any(kspace):
        raise ValueError("kspace: expected finite samples that are not all zero")
    check_one_of("pattern", pattern, get_args(Pattern))
    if acceleration is not None and mask is not None:
        raise ValueError("mask: expected one of mask and acceleration, got both")
    samples = torch.from_numpy(np.ascontiguousarray(kspace, np.complex64))[None]
    present = (samples != 0).any(1)[0]
    full = float(present.float().mean()) > ALMOST_ALL
    present |= full
    if acceleration is not None and not full:
        raise ValueError(
            f"acceleration: expected fully sampled k-space, got {float(present.float().mean()):.1%} "
            f"of it; {_advice(present)}"
        )
    acquired = present & _acquired(tuple(present.shape), acceleration, pattern, mask, seed)
    operator = MultiCoilMRI(acquired, n_coils=samples.shape[1])
    y = samples.masked_fill(~acquired, 0)
    scale = float(root_sum_of_squares(operator.adjoint(y)).max())
    if not scale > 0:
        raise ValueError("mask: expected samples that are not zero, got none")
    thinned = full and not bool(acquired.all())
    truth = root_sum_of_squares(centred_ifft(samples / scale))[0, 0].numpy() if thinned else None
    peak = None if truth is None else float(truth.max())
    weights, network = _prior(acquired, samples.shape[1])
    return Scan(
        operator,
        y / scale,
        shown(peak),
        None if truth is None else truth / truth.max(),
        float(acquired.float().mean()),
        KSPACE_LEARNING_RATE,
        KSPACE_MAX_ITER,
        scale,
        notes=("fully sampled: the image is the inverse transform",) if bool(acquired.all()) else (),
        weights=weights,
        network=network,
    )


def shown(peak: float | None) -> Callable[[Tensor], Pixels]:
    """Return the map of coil images to the pixels of their magnitude, the peak of which is 1."""

    def show(coils: Tensor) -> Pixels:
        magnitude = root_sum_of_squares(coils)[0, 0].numpy()
        return np.clip(magnitude / (peak or max(float(magnitude.max()), 1e-30)), 0, 1)

    return show


def reconstruct_scan(
    scan: Scan,
    *,
    max_iter: int | None = None,
    n_starts: int = 2,
    random_state: Any = None,
    verbose: bool = False,
) -> Reconstruction:
    """Fit an untrained network to a scan, then replace its signals by the nearest ones that agree with y.

    Fully sampled k-space is only transformed, in zero iterations. `calepin.restoration.restore_scan` has
    other priors for k-space.

    Parameters
    ----------
    scan : Scan
        See `scan_image` and `scan_kspace`.
    max_iter : int, optional
        Iterations of the fit. By default those of the scan: 300 for images, 400 for k-space.
    n_starts : int, default 2
        Number of random starts; their signals are averaged.
    random_state : int, RandomState, Generator or None, default None
        Seed of the initial weights.
    verbose : bool, default False
        Show a progress bar.

    Returns
    -------
    Reconstruction

    Warns
    -----
    UserWarning
        The fit diverged and continued with a smaller learning rate.

    Examples
    --------
    >>> from calepin.datasets import load_sample
    >>> from calepin.reconstruction import reconstruct_scan, scan_image
    >>> scan = scan_image(load_sample("camera"), ratio=0.3, size=32)
    >>> found = reconstruct_scan(scan, max_iter=50, n_starts=1, random_state=0)
    >>> found.image.shape
    (32, 32)
    """
    check_arguments(reconstruct_scan, locals())
    from sklearn.exceptions import ConvergenceWarning

    operator, y, scale = scan.operator, scan.y, 1.0
    if full_scan(scan):
        x = operator.adjoint(y)
        return Reconstruction(x, scan.show(x), scan.show(x), 0, 0.0, True, np.zeros((1, 1)))
    if scan.weights is not None:
        operator, y, scale = weighted(operator, y, scan.weights)
    reconstructor = UntrainedReconstructor(
        operator,
        network=scan.network,
        optimizer=Adam(scan.learning_rate),
        max_iter=scan.max_iter if max_iter is None else max_iter,
        n_starts=n_starts,
        random_state=random_state,
        verbose=verbose,
    )
    with warnings.catch_warnings():
        # the number of iterations is fixed and the residual is returned: only divergence needs a warning
        warnings.simplefilter("ignore", ConvergenceWarning)
        x = consistent(scan, scale * reconstructor.reconstruct(y))
    halved = int(reconstructor.solution_.n_reductions.max())
    if halved:
        warnings.warn(f"the fit diverged, its learning rate was halved {halved} times", stacklevel=2)
    return Reconstruction(
        x,
        scan.show(x),
        scan.show(projected_back(scan)),
        reconstructor.n_iter_,
        float(reconstructor.solution_.residual.max()),
        bool(reconstructor.converged_.all()),
        np.asarray(reconstructor.solution_.history["residual"]),
    )


def even_problem(scan: Scan) -> tuple[LinearOperator, Tensor]:
    """Return operator and measurements of a scan; those along a trajectory have the weights of the scan."""
    if not isinstance(scan.operator, NonCartesianFourier) or scan.weights is None:
        return scan.operator, scan.y
    whole = scan.weights.to(scan.y).expand(scan.operator.out_shape).clone()
    return Diagonal(whole) @ scan.operator, whole * scan.y


def consistent(scan: Scan, x: Tensor) -> Tensor:
    """Return the signals near x that agree with the measurements."""
    operator, y = even_problem(scan)
    return data_consistent(operator, x, y, n_iter=30 if operator is scan.operator else TRAJECTORY_STEPS)


def projected_back(scan: Scan) -> Tensor:
    """Return the signals by the adjoint."""
    operator, y = even_problem(scan)
    return operator.adjoint(y)


def full_scan(scan: Scan) -> bool:
    """Return whether a scan has all samples of k-space."""
    return isinstance(scan.operator, MultiCoilMRI) and bool(scan.operator.acquired.all())


def _prior(acquired: Tensor, n_coils: int) -> tuple[Tensor, UntrainedNetwork]:
    """Return the weights of samples and the network for all coils, smoother if columns are missing."""
    columns = bool((acquired == acquired[:1]).all())
    size = (int(acquired.shape[0]), int(acquired.shape[1]))
    weights = density_weights(size, power=0.25 if columns else 0.5)
    return weights, decoder(size, n_coils, most=8 if columns else 16)


def decoder(size: tuple[int, int], n_coils: int, *, most: int) -> UntrainedNetwork:
    """Return a network for the complex images of all coils; `most` limits the sides of its start grid."""
    # the best at 160 x 168, and at 320 x 168: larger start grids hallucinate detail that was not measured
    in_size = tuple(min(most, max(1, side // 4)) for side in size)
    return ComplexPair(
        DeepDecoder(size, out_channels=2 * n_coils, channels=128, in_size=in_size, output="none")
    )


def _reduced(x: Tensor, size: int) -> Tensor:
    """Return images reduced by averaging to `size` pixels along the longer side; smaller ones unchanged."""
    height, width = x.shape[-2:]
    factor = size / max(height, width)
    if factor >= 1:
        return x
    return interpolate(x, (max(1, round(height * factor)), max(1, round(width * factor))), mode="area")


def _operator(
    kind: Kind, shape: tuple[int, ...], ratio: float, mask: NDArray | None, seed: int
) -> LinearOperator:
    if mask is not None:
        return Mask(_checked_mask(mask, shape[1:])[None])
    n = shape[-2] * shape[-1]
    count = max(1, round(ratio * n))
    generator = torch_generator(seed)
    if kind == "mask":
        observed = torch.zeros(n, dtype=torch.bool)
        observed[torch.randperm(n, generator=generator)[:count]] = True
        return Mask(observed.view(shape))
    return OPERATORS[kind](shape, count, generator=generator)


def _acquired(
    shape: tuple[int, ...], acceleration: float | None, pattern: Pattern, mask: NDArray | None, seed: int
) -> Tensor:
    if mask is not None:
        return _checked_mask(mask, shape, columns=True)
    if acceleration is None:
        return torch.ones(shape, dtype=torch.bool)
    height, width = shape
    if pattern == "columns":
        return column_mask((height, width), acceleration=acceleration, seed=seed)
    # the fully sampled centre has at most a fifth of the samples
    n_center = min(24, int((height * width / acceleration / 5) ** 0.5))
    return variable_density_mask((height, width), acceleration=acceleration, n_center=n_center, seed=seed)


def _checked_mask(mask: NDArray, shape: tuple[int, ...], *, columns: bool = False) -> Tensor:
    """Return a mask of booleans, or of zeros and ones, as a tensor; it may be that of whole columns."""
    values = np.asarray(mask)
    if columns and values.shape == shape[1:]:
        values = np.broadcast_to(values, shape)
    if values.shape != shape:
        other = f", or {shape[1:]} of columns" if columns else ""
        raise ValueError(f"mask: expected shape {shape}{other}, got {values.shape}")
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise ValueError(f"mask: expected booleans or zeros and ones, got others ({values.dtype})")
    if not values.any():
        raise ValueError("mask: expected at least one sample, got none")
    return torch.from_numpy(values.astype(bool))


def _advice(present: Tensor) -> str:
    columns = present.any(0).nonzero().flatten()
    first, last = int(columns[0]), int(columns[-1]) + 1
    if (first, last) != (0, present.shape[1]):
        return f"columns other than {first}:{last} are zero and can be cut off"
    return "without it, all nonzero samples count as acquired"


def _as_pixels(x: Tensor) -> Pixels:
    """Return images of the channels, (channels, 1, h, w), as pixels (h, w) or (h, w, channels)."""
    pixels = x[:, 0].clamp(0, 1).movedim(0, -1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels

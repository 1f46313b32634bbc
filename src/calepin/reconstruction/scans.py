"""From an image or k-space to a reconstruction in two calls: what ``calepin reconstruct`` does.

A `Scan` is what was measured: an image by an operator with fewer rows than pixels, or k-space of a scanner
of which samples are missing. `reconstruct_scan` fits an untrained network to it.
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

from calepin.core.checks import check_integer, check_number, check_one_of
from calepin.core.random import torch_generator
from calepin.datasets.images import Image
from calepin.networks.deep_decoder import DeepDecoder
from calepin.networks.untrained import ComplexPair, UntrainedNetwork
from calepin.operators.base import LinearOperator
from calepin.operators.fourier import (
    MultiCoilMRI,
    centred_ifft,
    column_mask,
    density_weights,
    root_sum_of_squares,
    variable_density_mask,
)
from calepin.operators.mask import Mask
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
LEARNING_RATE, MAX_ITER = 0.02, 300  # of images
KSPACE_LEARNING_RATE, KSPACE_MAX_ITER = 0.03, 400
ALMOST_ALL = 0.99  # a sample may be zero by rounding


@dataclass(frozen=True)
class Scan:
    """Measurements, how signals become images, and how a network is fitted.

    Attributes
    ----------
    operator
        A, the measurement.
    y
        (n, *operator.out_shape), of signals around 1.
    show
        Turns signals (n, *operator.in_shape) into pixels (h, w) or (h, w, 3) in [0, 1].
    truth
        Pixels, where they are known.
    fraction
        Of all samples, that was acquired.
    learning_rate, max_iter
        Of the fit.
    scale
        What signals are multiplied by to have the file's unit.
    notes
        What was done to the content of the file.
    weights
        Of the measurements in the fit; all alike without.
    network
        Makes the signals; the default of `UntrainedReconstructor` without.
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
    """What `reconstruct_scan` found.

    Attributes
    ----------
    x
        Signals (n, *operator.in_shape); of k-space the complex images of the coils, divided by `Scan.scale`.
    image
        They as pixels in [0, 1].
    adjoint
        Pixels of ``A^H y``, to compare with: of k-space, with zeros in the place of what is missing.
    n_iter
        Iterations of the fit.
    residual
        Relative residual of the worst fit, ``||y - A x|| / ||y||``.
    converged
        Whether all fits converged.
    """

    x: Tensor
    image: Pixels
    adjoint: Pixels
    n_iter: int
    residual: float
    converged: bool


def scan_image(
    image: Image,
    kind: Kind = "hadamard",
    *,
    ratio: float = 0.25,
    mask: NDArray | None = None,
    size: int = 128,
    seed: int = 0,
) -> Scan:
    """Reduce an image to `size` pixels along its longer side, and measure each channel by itself.

    Parameters
    ----------
    image : Image
        See `calepin.datasets.read_image`.
    kind : {"gaussian", "hadamard", "dct", "mask"}, default "hadamard"
        Gaussian numbers; rows of a randomised Hadamard or cosine transform; pixels.
    ratio : float, default 0.25
        Measurements for each pixel, above 0 and at most 1; without effect beside a mask.
    mask : array of bool, of 0 and 1, of the reduced image's shape (h, w), optional
        The pixels that kind "mask" knows. By default they are drawn at random.
    size : int, default 128
        Smaller images stay as they are.
    seed : int, default 0
        Of the measurements.

    Returns
    -------
    Scan

    Raises
    ------
    ValueError
        A setting out of range, a mask of another shape or for another kind.
    """
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
        notes.append("each colour channel is measured and reconstructed by itself")
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
    """Undersample k-space; without `acceleration` and `mask` its zeros are what is missing.

    Parameters
    ----------
    kspace : complex array (n_coils, ky, kx)
        Of one slice, zero frequency in the middle; see `calepin.reconstruction.read_kspace`.
    acceleration : float, optional
        Keep one of so many samples of fully sampled k-space.
    pattern : {"points", "columns"}, default "points"
        What `acceleration` keeps: single samples, denser in the middle, or whole columns.
    mask : array of bool, of 0 and 1, of shape (ky, kx), optional
        The samples that are kept, in place of `acceleration`.
    seed : int, default 0
        Of the samples that `acceleration` keeps.

    Returns
    -------
    Scan
        With the true image where k-space is fully sampled.

    Raises
    ------
    ValueError
        An acceleration of k-space that is not fully sampled, nothing missing, or an unusable mask.
    """
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
    if acceleration is None and mask is None and full:
        raise ValueError("kspace: expected missing samples, an acceleration or a mask, got it fully sampled")
    acquired = present & _acquired(tuple(present.shape), acceleration, pattern, mask, seed)
    operator = MultiCoilMRI(acquired, n_coils=samples.shape[1])
    y = samples.masked_fill(~acquired, 0)
    scale = float(root_sum_of_squares(operator.adjoint(y)).max())
    if not scale > 0:
        raise ValueError("mask: expected samples that are not zero, got none")
    truth = root_sum_of_squares(centred_ifft(samples / scale))[0, 0].numpy() if full else None
    peak = None if truth is None else float(truth.max())

    def show(coils: Tensor) -> Pixels:
        magnitude = root_sum_of_squares(coils)[0, 0].numpy()
        return np.clip(magnitude / (peak or max(float(magnitude.max()), 1e-30)), 0, 1)

    weights, network = _prior(acquired, samples.shape[1])
    return Scan(
        operator,
        y / scale,
        show,
        None if truth is None else truth / truth.max(),
        float(acquired.float().mean()),
        KSPACE_LEARNING_RATE,
        KSPACE_MAX_ITER,
        scale,
        weights=weights,
        network=network,
    )


def reconstruct_scan(
    scan: Scan,
    *,
    max_iter: int | None = None,
    n_starts: int = 2,
    random_state: Any = None,
    verbose: bool = False,
) -> Reconstruction:
    """Fit an untrained network to a scan, and move its signals to the nearest ones that y allows.

    Parameters
    ----------
    scan : Scan
        See `scan_image` and `scan_kspace`.
    max_iter : int, optional
        Iterations of the fit. By default those of the scan: 300 for images, 400 for k-space.
    n_starts : int, default 2
        Random starts, averaged.
    random_state : int, RandomState, Generator or None, default None
        Of the weights that the network starts with.
    verbose : bool, default False
        Show a progress bar.

    Returns
    -------
    Reconstruction

    Warns
    -----
    UserWarning
        The fit diverged and went on with a smaller learning rate.

    Examples
    --------
    >>> from calepin.datasets import load_sample
    >>> from calepin.reconstruction import reconstruct_scan, scan_image
    >>> scan = scan_image(load_sample("camera"), ratio=0.3, size=32)
    >>> found = reconstruct_scan(scan, max_iter=50, n_starts=1, random_state=0)
    >>> found.image.shape
    (32, 32)
    """
    from sklearn.exceptions import ConvergenceWarning

    operator, y, scale = scan.operator, scan.y, 1.0
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
        # so many iterations are meant to be enough, and the residual is returned; divergence is not meant
        warnings.simplefilter("ignore", ConvergenceWarning)
        x = data_consistent(scan.operator, scale * reconstructor.reconstruct(y), scan.y)
    halved = int(reconstructor.solution_.n_reductions.max())
    if halved:
        warnings.warn(f"the fit diverged, its learning rate was halved {halved} times", stacklevel=2)
    return Reconstruction(
        x,
        scan.show(x),
        scan.show(scan.operator.adjoint(scan.y)),
        reconstructor.n_iter_,
        float(reconstructor.solution_.residual.max()),
        bool(reconstructor.converged_.all()),
    )


def _prior(acquired: Tensor, n_coils: int) -> tuple[Tensor, UntrainedNetwork]:
    """Return the weights of samples and the network of all coils, smoother where columns are missing."""
    columns = bool((acquired == acquired[:1]).all())
    size = (int(acquired.shape[0]), int(acquired.shape[1]))
    # the best at 160 x 168, and at 320 x 168: larger start grids hallucinate detail that was not measured
    in_size = tuple(min(8 if columns else 16, max(1, side // 4)) for side in size)
    decoder = DeepDecoder(size, out_channels=2 * n_coils, channels=128, in_size=in_size, output="none")
    return density_weights(size, power=0.25 if columns else 0.5), ComplexPair(decoder)


def _reduced(x: Tensor, size: int) -> Tensor:
    """Return images averaged down to `size` pixels along the longer side; smaller ones as they are."""
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
        return _checked_mask(mask, shape)
    if acceleration is None:
        return torch.ones(shape, dtype=torch.bool)
    height, width = shape
    if pattern == "columns":
        return column_mask((height, width), acceleration=acceleration, seed=seed)
    # the fully sampled middle takes a fifth of the samples at most
    n_center = min(24, int((height * width / acceleration / 5) ** 0.5))
    return variable_density_mask((height, width), acceleration=acceleration, n_center=n_center, seed=seed)


def _checked_mask(mask: NDArray, shape: tuple[int, ...]) -> Tensor:
    """Return a mask of booleans, or of zeros and ones, as a tensor."""
    values = np.asarray(mask)
    if values.shape != shape:
        raise ValueError(f"mask: expected shape {shape}, got {values.shape}")
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
    return "without it the samples that are not zero are taken as acquired"


def _as_pixels(x: Tensor) -> Pixels:
    """Return images of the channels, (channels, 1, h, w), as pixels (h, w) or (h, w, channels)."""
    pixels = x[:, 0].clamp(0, 1).movedim(0, -1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels

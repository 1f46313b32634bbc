"""Magnetic resonance images from undersampled k-space of several coils, by known sensitivities and a prior.

Two sets of sensitivities (`calepin.operators.espirit_maps`) turn the images of all coils into two images.
From those of least total variation, half-quadratic splitting goes on with groups of similar patches:

    z_k = argmin_z ||A z - y||^2 + .1 (sigma / s_k)^2 ||z - x_{k-1}||^2
    x_k = the patches of z_k with noise of level s_k, shrunk with the covariances of those of x_{k-1}

s_k falls from 5 sigma to sigma in sixteen steps, sigma being the noise of k-space. Real and imaginary parts
of all images share their groups, which are found on the real part of the first: its phase is removed. The
result is moved to the measured samples.

Samples along a trajectory have weights that even out their density (`calepin.operators.non_cartesian`).
Sensitivities are calibrated from the rectangle in the middle of k-space that they cover: low-resolution
images of the coils that fit them, by least squares, are transformed to a Cartesian grid.
"""

import warnings
from collections.abc import Callable
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_number, check_one_of
from calepin.core.errors import IncompatibleError
from calepin.core.random import RandomState
from calepin.core.threads import single_threaded_torch
from calepin.imaging.groups import GroupFilter
from calepin.operators.base import LinearOperator
from calepin.operators.fourier import MultiCoilMRI
from calepin.operators.least_squares import regularised_least_squares
from calepin.operators.non_cartesian import NonCartesianFourier
from calepin.operators.sensitivities import (
    LEAST_SIDE,
    Sensitivities,
    calibration_size,
    espirit_maps,
    kspace_noise,
    outer_noise,
)
from calepin.reconstruction.scans import (
    Reconstruction,
    Scan,
    consistent,
    even_problem,
    full_scan,
    projected_back,
    reconstruct_scan,
)
from calepin.restoration.calibration import calibration_block
from calepin.restoration.priors import WaveletDenoiser
from calepin.restoration.splitting import denoised
from calepin.restoration.variation import least_variation

__all__ = ["default_prior", "restore_scan"]

Prior = Literal["groups", "wavelet", "tv", "untrained"]

N_SETS = 2
VARIATION = 0.1  # weight of the total variation, in standard deviations of the noise
MAX_ITER, TOL = 600, 2e-4  # of the total variation
START_ITER = 120  # of the total variation, before other priors
N_STEPS, WEIGHT = 16, 0.1
FIRST, LAST = 5.0, 1.0  # levels of the steps, in standard deviations of the noise
CG_ITERATIONS = 8
GROUPS = GroupFilter(patch_size=6, group_size=24, mean="level")
LEAST_NOISE = 1e-4  # of images around 1: a floor for k-space without noise


def default_prior(scan: Scan) -> Prior:
    """Return the prior of a scan: "groups" if its sensitivities can be calibrated, otherwise "untrained".

    That needs two coils, and a fully sampled middle of k-space of at least 6 x 6 samples. For a trajectory it
    is always "groups".
    """
    check_arguments(default_prior, locals())
    if isinstance(scan.operator, NonCartesianFourier):
        return "groups"
    if not isinstance(scan.operator, MultiCoilMRI):
        return "untrained"
    enough = scan.operator.out_shape[0] > 1
    return "groups" if enough and _middle_is_full(scan.operator.acquired) else "untrained"


def restore_scan(
    scan: Scan,
    *,
    prior: Prior | None = None,
    noise: float | None = None,
    sensitivities: ArrayLike | None = None,
    random_state: RandomState = 0,
    callback: Callable[[str, float], object] | None = None,
) -> Reconstruction:
    """Return the image of a scan of k-space, by its coils' sensitivities and a prior.

    Parameters
    ----------
    scan : Scan
        See `calepin.reconstruction.scan_kspace`.
    prior : {"groups", "wavelet", "tv", "untrained"}, optional
        "groups": groups of similar patches. "wavelet": cycle-spun wavelets. "tv": total variation of all
        images together. All three use two sets of sensitivities, for one coil none. "untrained":
        `calepin.reconstruction.reconstruct_scan`. Default: `default_prior`.
    noise : float, optional
        Standard deviation of real and imaginary part of the noise, in the units of k-space. Default: that of
        the outer samples, see `calepin.operators.kspace_noise`.
    sensitivities : complex array, (n_coils, height, width) or (n_sets, n_coils, height, width), optional
        Sensitivities of the coils, in any unit. Default: calibrated from the middle of k-space.
    random_state : int, Generator, RandomState or None, default=0
        Seed of an untrained network.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: the current stage, and the finished fraction of the work.

    Returns
    -------
    Reconstruction
        Its x are the complex images of the coils, as without sensitivities. Fully sampled k-space is only
        transformed, in zero iterations.

    Raises
    ------
    ValueError
        An invalid argument, or several coils without a fully sampled middle of k-space.
    IncompatibleError
        A scan of an image, for another prior than "untrained"; a noise level or sensitivities for
        "untrained".

    Warns
    -----
    ConvergenceWarning
        The total variation still fell after 600 iterations.
    UserWarning
        By default: several coils have no fully sampled middle of k-space.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from calepin.operators import centred_fft
    >>> from calepin.reconstruction import scan_kspace
    >>> from calepin.restoration import restore_scan
    >>> rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    >>> disc = (rows**2 + columns**2 < 0.6) * (1 + (abs(rows) < 0.3))
    >>> coils = disc * np.exp(-((rows - np.array([[[-1]], [[1]]])) ** 2))
    >>> kspace = centred_fft(torch.from_numpy(coils.astype(complex))).numpy()
    >>> kspace += np.random.default_rng(0).normal(0, 0.01, kspace.shape)
    >>> scan = scan_kspace(kspace, acceleration=3)
    >>> found = restore_scan(scan)
    >>> float(np.std(found.image - scan.truth)) < 0.5 * float(np.std(found.adjoint - scan.truth))
    True
    """
    check_arguments(restore_scan, locals())
    if prior is not None:
        check_one_of("prior", prior, get_args(Prior))
    check_number("noise", noise, above=0, optional=True)
    peak = scan.scale * float(scan.y.abs().max())
    if noise is not None and noise >= peak:
        raise ValueError(
            f"noise: expected less than the largest sample of k-space, {peak:.3g}, got {noise:g}"
        )
    if full_scan(scan):
        return reconstruct_scan(scan)
    operator = scan.operator
    chosen = prior or ("groups" if sensitivities is not None else default_prior(scan))
    if chosen == "untrained":
        if noise is not None:
            raise IncompatibleError("noise: an untrained network has no use for it, expected None")
        if sensitivities is not None:
            raise IncompatibleError("sensitivities: expected None for an untrained network")
        if prior is None and isinstance(operator, MultiCoilMRI) and operator.out_shape[0] > 1:
            warnings.warn(f"{_size_note(operator.acquired)}: fitted an untrained network", stacklevel=2)
        return reconstruct_scan(scan, random_state=random_state)
    if not isinstance(operator, MultiCoilMRI | NonCartesianFourier):
        raise IncompatibleError(f"scan: expected k-space for prior {chosen!r}, got an image; use 'untrained'")
    maps = None if sensitivities is None else _given(sensitivities, operator.in_shape).to(scan.y)
    level = None if noise is None else noise / scan.scale
    with single_threaded_torch():
        return _restored(scan, chosen, level, maps, callback or (lambda stage, fraction: None))


def _restored(
    scan: Scan,
    prior: Prior,
    noise: float | None,
    maps: Tensor | None,
    report: Callable[[str, float], object],
) -> Reconstruction:
    report("sensitivities", 0.0)
    sigma = max(_noise(scan) if noise is None else noise, LEAST_NOISE)
    coils = Sensitivities(_maps(scan, sigma) if maps is None else maps)
    if isinstance(scan.operator, NonCartesianFourier) and scan.weights is not None:
        sigma *= float(scan.weights.max())
    scanner, y = even_problem(scan)
    operator = scanner @ coils
    report("total variation", 0.1)
    x, n_iter, converged = least_variation(
        operator,
        y,
        weight=VARIATION * sigma,
        max_iter=MAX_ITER if prior == "tv" else START_ITER,
        tol=TOL,
    )
    if prior == "tv" and not converged:
        warnings.warn(
            f"the total variation still fell after {MAX_ITER} iterations", ConvergenceWarning, stacklevel=3
        )
    residuals = [_residual(operator, x, y)]
    if prior != "tv":
        x = _split(operator, y, sigma, x, prior, residuals, report)
        n_iter, converged = N_STEPS, True
    found = consistent(scan, coils(x))
    return Reconstruction(
        found,
        scan.show(found),
        scan.show(projected_back(scan)),
        n_iter,
        residuals[-1],
        converged,
        np.array(residuals)[:, None],
    )


def _split(
    operator: LinearOperator,
    y: Tensor,
    sigma: float,
    x: Tensor,
    prior: Prior,
    residuals: list[float],
    report: Callable[[str, float], object],
) -> Tensor:
    """Return the images after all steps; add the relative residual of each."""
    for k in range(N_STEPS):
        report(f"step {k + 1}", 0.3 + 0.7 * k / N_STEPS)
        level = FIRST * (LAST / FIRST) ** (k / (N_STEPS - 1))
        weight = WEIGHT / level**2 * operator.norm_squared()
        z, _ = regularised_least_squares(operator, x, y, weight=weight, n_iter=CG_ITERATIONS)
        if prior == "groups":
            x = _grouped(z, x, level * sigma)
        else:
            x = denoised(z, level * sigma, WaveletDenoiser(), 0)
        residuals.append(_residual(operator, x, y))
    return x


def _grouped(z: Tensor, guide: Tensor, level: float) -> Tensor:
    """Return images (1, n, h, w) with noise of a level, shrunk in groups that a guide finds."""
    noisy, estimate = (
        torch.view_as_real(images[0].to(torch.complex64)).movedim(-1, 1).flatten(0, 1).contiguous().numpy()
        for images in (z, guide)
    )
    planes = torch.from_numpy(GROUPS.apply(noisy, estimate, level)).unflatten(0, (-1, 2))
    return torch.complex(planes[:, 0], planes[:, 1])[None].to(z.dtype)


def _noise(scan: Scan) -> float:
    """Return the noise of samples, from those that are farthest from the middle."""
    scanner = scan.operator
    if not isinstance(scanner, NonCartesianFourier):
        return kspace_noise(scan.y[0], cast(MultiCoilMRI, scanner).acquired)
    sides = scanner.coordinates.new_tensor(scanner.in_shape[1:])
    return outer_noise(scan.y[0], (scanner.coordinates / sides).square().sum(1))


def _maps(scan: Scan, sigma: float) -> Tensor:
    n_coils, *size = scan.operator.in_shape
    if n_coils == 1:
        return torch.ones(1, 1, *size, dtype=scan.y.dtype)
    if isinstance(scan.operator, NonCartesianFourier):
        kspace, acquired = calibration_block(scan.operator, scan.y)
        advice = "expected sensitivities"
    else:
        kspace, acquired = scan.y, cast(MultiCoilMRI, scan.operator).acquired
        advice = "use prior 'untrained'"
    if not _middle_is_full(acquired):
        raise ValueError(f"scan: {_size_note(acquired)}; {advice}")
    return espirit_maps(kspace[0], acquired, n_sets=N_SETS, noise=sigma)


def _given(sensitivities: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    """Return given sensitivities (n_sets, *shape), the largest norm of which is 1 at a pixel."""
    maps = np.array(sensitivities)
    maps = maps[None] if maps.ndim == 3 else maps
    if maps.dtype.kind not in "fc" or maps.ndim != 4 or maps.shape[1:] != shape or not len(maps):
        raise ValueError(
            f"sensitivities: expected a complex array of shape {shape}, or several such sets, "
            f"got {maps.dtype} of {np.shape(sensitivities)}"
        )
    if not np.isfinite(maps).all() or not maps.any():
        raise ValueError("sensitivities: expected finite values that are not all zero")
    given = torch.from_numpy(maps.astype(np.complex128))
    return given / Sensitivities(given).norm_squared() ** 0.5


def _middle_is_full(acquired: Tensor) -> bool:
    return min(calibration_size(acquired)) >= LEAST_SIDE


def _size_note(acquired: Tensor) -> str:
    rows, columns = calibration_size(acquired)
    return (
        f"sensitivities need {LEAST_SIDE} x {LEAST_SIDE} samples in the middle of k-space, all acquired, "
        f"got {rows} x {columns}"
    )


def _residual(operator: LinearOperator, x: Tensor, y: Tensor) -> float:
    return float(torch.linalg.vector_norm(y - operator(x)) / torch.linalg.vector_norm(y))

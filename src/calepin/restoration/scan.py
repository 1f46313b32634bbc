"""Magnetic resonance images from undersampled k-space of several coils, by known sensitivities and a prior.

Two sets of sensitivities (`calepin.operators.espirit_maps`) turn the images of all coils into two images.
From those of least total variation, half-quadratic splitting goes on with groups of similar patches:

    z_k = argmin_z ||A z - y||^2 + .1 (sigma / s_k)^2 ||z - x_{k-1}||^2
    x_k = the patches of z_k with noise of level s_k, shrunk with the covariances of those of x_{k-1}

s_k falls from 5 sigma to sigma in sixteen steps, sigma being the noise of k-space. Real and imaginary parts
of all images share their groups, which are found on the real part of the first: its phase is removed. The
result is moved to the measured samples.
"""

import warnings
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
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
from calepin.operators.sensitivities import (
    LEAST_SIDE,
    Sensitivities,
    calibration_size,
    espirit_maps,
    kspace_noise,
)
from calepin.reconstruction.consistency import data_consistent
from calepin.reconstruction.scans import Reconstruction, Scan, full_scan, reconstruct_scan
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

    That needs two coils, and a fully sampled middle of k-space of at least 6 x 6 samples.
    """
    check_arguments(default_prior, locals())
    if not isinstance(scan.operator, MultiCoilMRI):
        return "untrained"
    enough = scan.operator.out_shape[0] > 1
    return "groups" if enough and _middle_is_full(scan.operator) else "untrained"


def restore_scan(
    scan: Scan,
    *,
    prior: Prior | None = None,
    noise: float | None = None,
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
        A scan of an image, for another prior than "untrained"; a noise level for "untrained".

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
    if full_scan(scan):
        return reconstruct_scan(scan)
    chosen = default_prior(scan) if prior is None else prior
    operator = scan.operator
    if chosen == "untrained":
        if noise is not None:
            raise IncompatibleError("noise: an untrained network has no use for it, expected None")
        if prior is None and isinstance(operator, MultiCoilMRI) and operator.out_shape[0] > 1:
            warnings.warn(f"{_size_note(operator)}: fitted an untrained network", stacklevel=2)
        return reconstruct_scan(scan, random_state=random_state)
    if not isinstance(operator, MultiCoilMRI):
        raise IncompatibleError(f"scan: expected k-space for prior {chosen!r}, got an image; use 'untrained'")
    level = None if noise is None else noise / scan.scale
    with single_threaded_torch():
        return _restored(scan, operator, chosen, level, callback or (lambda stage, fraction: None))


def _restored(
    scan: Scan,
    scanner: MultiCoilMRI,
    prior: Prior,
    noise: float | None,
    report: Callable[[str, float], object],
) -> Reconstruction:
    y, acquired = scan.y, scanner.acquired
    report("sensitivities", 0.0)
    sigma = max(kspace_noise(y[0], acquired) if noise is None else noise, LEAST_NOISE)
    coils = Sensitivities(_maps(scanner, y, sigma))
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
    found = data_consistent(scanner, coils(x), y)
    return Reconstruction(
        found,
        scan.show(found),
        scan.show(scanner.adjoint(y)),
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


def _maps(scanner: MultiCoilMRI, y: Tensor, sigma: float) -> Tensor:
    n_coils, *size = scanner.out_shape
    if n_coils == 1:
        return torch.ones(1, 1, *size, dtype=y.dtype)
    if not _middle_is_full(scanner):
        raise ValueError(f"scan: {_size_note(scanner)}; use prior 'untrained'")
    return espirit_maps(y[0], scanner.acquired, n_sets=N_SETS, noise=sigma)


def _middle_is_full(scanner: MultiCoilMRI) -> bool:
    return min(calibration_size(scanner.acquired)) >= LEAST_SIDE


def _size_note(scanner: MultiCoilMRI) -> str:
    rows, columns = calibration_size(scanner.acquired)
    return (
        f"sensitivities need {LEAST_SIDE} x {LEAST_SIDE} samples in the middle of k-space, all acquired, "
        f"got {rows} x {columns}"
    )


def _residual(operator: LinearOperator, x: Tensor, y: Tensor) -> float:
    return float(torch.linalg.vector_norm(y - operator(x)) / torch.linalg.vector_norm(y))

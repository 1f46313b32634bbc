"""Restore an image from measurements by any linear operator, with a choice of priors."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_methods, check_number, check_scale
from calepin.core.errors import IncompatibleError
from calepin.core.random import RandomState
from calepin.datasets.noise import GaussianNoise
from calepin.imaging.by_dictionary import DictionaryDenoiser
from calepin.imaging.by_guide import GuidedDenoiser
from calepin.imaging.by_network import NetworkDenoiser
from calepin.imaging.denoising import Denoiser
from calepin.operators.base import LinearOperator
from calepin.operators.bayer import Bayer
from calepin.restoration.constant import far_constant
from calepin.restoration.density import evened
from calepin.restoration.first_estimate import first_estimate, held_out_level, noise_level
from calepin.restoration.mosaic import along_edges
from calepin.restoration.offset import balanced
from calepin.restoration.priors import GroupDenoiser, TVDenoiser, WaveletDenoiser
from calepin.restoration.result import RestoreResult
from calepin.restoration.splitting import FIRST_LEVEL, split
from calepin.restoration.untrained import fit_network

__all__ = ["PRIORS", "restore"]

PRIORS: dict[str, Callable[[], Denoiser]] = {
    "dictionary": lambda: DictionaryDenoiser(n_iter=0),
    "network": lambda: NetworkDenoiser(fallback=False),
    "best": lambda: GuidedDenoiser(dictionary=DictionaryDenoiser(n_iter=0), fallback=False),
    "groups": GroupDenoiser,
    "wavelet": WaveletDenoiser,
    "tv": TVDenoiser,
}
"""Names of the priors that are denoisers; "untrained" is none."""

N_LEVELS = 8
MAX_ITER = 32
TOL = 0.005
OTHER_UNITS = 1e6  # noise, over the largest measurement, that must be a mistake
FEWEST_HELD_OUT = 50  # measurements of which a tenth can be held out
MOSAIC_LEVEL = 6 / 255  # first level for a mosaic, whose first image has few errors
ESTIMATE = {"n_levels": 4, "max_iter": 4, "tol": 0.0}  # steps for the level of the noise


def restore(
    y: ArrayLike,
    operator: LinearOperator,
    *,
    noise: GaussianNoise | None = None,
    prior: str | Denoiser = "dictionary",
    start: ArrayLike | None = None,
    max_iter: int | None = None,
    tol: float | None = None,
    random_state: RandomState = 0,
    callback: Callable[[str, float], object] | None = None,
) -> RestoreResult:
    """Return the image that fits measurements ``y = A x + noise`` and that a prior finds likely.

    With a denoiser as prior: half-quadratic splitting in eight levels of noise, from 49/255 of the range of
    the image (6/255 for a Bayer mosaic) to that of the measurements. Each step solves a least-squares
    problem, in closed form if the operator has one (`LinearOperator.solve_gram`), else by conjugate
    gradients, which end when their error is about a tenth of the level, and denoises its solution. Levels and
    weights follow from the gain of the operator, the root of the mean of its squared singular values, each
    weighted by itself; samples of `calepin.operators.NonCartesianFourier` that lie densely are weighted down
    first. The run ends, after the eighth step, when a step changes the image by at most `tol`. With
    "untrained": `calepin.reconstruction.fit_untrained`, which ends when the residual is that of the noise.
    An image far from zero, its median more than twice its range, is restored without its constant, of each
    channel.

    Parameters
    ----------
    y : array or Tensor, the operator's out_shape
        Measurements, floating-point or complex, of one image.
    operator : LinearOperator
        A, from images (height, width) or (channels, height, width). Three real channels are colours; other
        channels, real and imaginary parts are denoised separately.
    noise : GaussianNoise, optional
        Noise of y, in its units; for complex y that of real and imaginary part. Default: estimated by the
        residual of a first restoration with wavelets; of measurements with one axis, as those of random
        patterns, the level with which a restoration predicts a tenth of them best that was held out.
    prior : {"dictionary", "network", "best", "groups", ...} or Denoiser, default="dictionary"
        "dictionary": `calepin.imaging.DictionaryDenoiser` without learning. "network":
        `calepin.imaging.NetworkDenoiser`, trained on photographs, of which it restores most, in a third of
        the time. "best": `calepin.imaging.GuidedDenoiser`, both. "groups", "wavelet" and "tv":
        `calepin.restoration.GroupDenoiser`, `WaveletDenoiser` and `TVDenoiser`. "untrained": a deep decoder,
        fitted to y. Any object with the method `denoise` of `calepin.imaging.Denoiser` is a prior too.
    start : array or Tensor, the operator's in_shape, optional
        First image. Default: measurements projected back, and divided by what each pixel contributes to them;
        of a Bayer mosaic, colours interpolated along edges.
    max_iter : int, optional
        Steps at most, at least 8, or iterations of an untrained network. Default: 32 steps, or as many
        iterations as `calepin.reconstruction.fit_untrained` has.
    tol : float, optional
        Relative change of the image below which the run ends. Default: 0.005. Not for "untrained", whose run
        ends by the noise.
    random_state : int, Generator, RandomState or None, default=0
        Seed of everything random.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: the current step or iteration, and the finished fraction of
        the work if there are eight steps, or as many iterations as a fit of a network has at most.

    Returns
    -------
    RestoreResult
        The image, of the dtype of y, and how it was found.

    Raises
    ------
    ValueError
        An invalid argument; the message names it.
    IncompatibleError
        Another noise model; `tol` for "untrained".

    Warns
    -----
    ConvergenceWarning
        The image still changed in the last step, or conjugate gradients did not converge.

    Examples
    --------
    >>> import numpy as np, torch, calepin
    >>> from calepin.operators import Blur
    >>> from skimage import data
    >>> clean = data.camera()[100:164, 200:264] / 255
    >>> blur = Blur(torch.full((5, 5), 1 / 25), (64, 64))
    >>> y = blur(torch.from_numpy(clean)[None])[0].numpy()
    >>> y += np.random.default_rng(0).normal(0, 0.01, y.shape)
    >>> result = calepin.restore(y, blur, noise=calepin.GaussianNoise(0.01), prior="tv")
    >>> bool(np.std(result.image - clean) < 0.8 * np.std(y - clean))
    True
    """
    check_arguments(restore, locals())
    check_methods("operator", operator, "forward", "adjoint", "solve_gram")
    check_number("tol", tol, least=0, optional=True)
    denoiser = _denoiser(prior)
    if denoiser is None and tol is not None:
        raise IncompatibleError(f"tol: expected None for an untrained network, got {tol:g}")
    tol = TOL if tol is None else tol
    check_integer("max_iter", max_iter, least=1 if denoiser is None else N_LEVELS, optional=True)
    measured = _checked("y", y, operator.out_shape)
    if len(operator.in_shape) not in (2, 3):
        raise ValueError(
            f"operator: expected images (height, width) or (channels, height, width), got {operator.in_shape}"
        )
    if noise is not None and (not isinstance(noise, GaussianNoise) or noise.sigma_max is not None):
        raise IncompatibleError(f"noise: expected GaussianNoise with one level, got {noise!r}")
    peak = float(measured.abs().max())
    if noise is not None and peak and noise.sigma > OTHER_UNITS * peak:
        raise ValueError(
            f"noise: expected sigma in the units of y, whose largest magnitude is {peak:.3g}, "
            f"got {noise.sigma:g}"
        )
    if not measured.is_complex() and operator(measured.new_zeros((1, *operator.in_shape))).is_complex():
        raise ValueError(f"y: expected complex measurements, as those of the operator, got {measured.dtype}")
    constant = far_constant(
        operator, measured, lambda y: _first_image(operator, y)[0], positive=denoiser is None
    )
    first = None if start is None else _start(start, operator, measured)
    if constant is not None:
        measured = measured - operator(constant)
        first = None if first is None else first - constant
    operator, measured = balanced(operator, measured)
    even, weighted, factor = evened(operator, measured)
    rough, level = _first_image(even, weighted)
    first = rough if first is None else first
    if noise is None:
        noise = GaussianNoise(_estimated(operator, measured, first, denoiser))
    if denoiser is None:
        found = fit_network(
            operator,
            measured,
            noise.sigma,
            first,
            max_iter=max_iter,
            random_state=random_state,
            report=callback or (lambda stage, fraction: None),
        )
        image = _like(y, found.image, constant)
        return RestoreResult(image, noise, found.n_iter, found.converged, found.history)

    def report(step: int) -> None:
        if callback is not None:
            callback(f"step {step}", min(step / N_LEVELS, 1.0))

    done = split(
        even,
        weighted,
        factor * noise.sigma,
        denoiser,
        first,
        n_levels=N_LEVELS,
        max_iter=MAX_ITER if max_iter is None else max_iter,
        tol=tol,
        first_level=level,
        random_state=random_state,
        report=report,
    )
    _warn(done.converged, done.history[-1]["change"], tol, done.inexact)
    image = _like(y, done.x[0], constant)
    return RestoreResult(image, noise, len(done.history), done.converged, done.history)


def _denoiser(prior: str | Denoiser) -> Denoiser | None:
    """Return the denoiser, or None for an untrained network."""
    if isinstance(prior, str) and prior in PRIORS:
        return PRIORS[prior]()
    if isinstance(prior, str) and prior == "untrained":
        return None
    if isinstance(prior, Denoiser) and not isinstance(prior, type):
        return prior
    words = ", ".join(repr(word) for word in (*PRIORS, "untrained"))
    raise ValueError(f"prior: expected one of {words}, or an object with a method denoise, got {prior!r:.60}")


def _checked(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    """Return one sample as a batch; raise ValueError for another shape or dtype, NaN or infinity."""
    given = values.detach() if isinstance(values, Tensor) else torch.from_numpy(_array(name, values))
    if given.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        raise ValueError(f"{name}: expected single or double precision, got {given.dtype}")
    if tuple(given.shape) != shape:
        raise ValueError(f"{name}: expected the operator's shape {shape}, got {tuple(given.shape)}")
    if not bool(torch.isfinite(given).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    real = torch.float32 if given.dtype in (torch.float32, torch.complex64) else torch.float64
    check_scale(name, float(given.abs().max()), np.float32 if real == torch.float32 else np.float64)
    return given[None]


def _array(name: str, values: Any) -> np.ndarray:
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "fc" or array.dtype.itemsize > 16 or array.dtype == np.longdouble:
        raise ValueError(f"{name}: expected floating-point or complex numbers, got {array.dtype}")
    array = array if array.flags.writeable else array.copy()
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _start(start: Any, operator: LinearOperator, y: Tensor) -> Tensor:
    like = torch.zeros_like(operator.adjoint(y))
    return _checked("start", start, operator.in_shape).to(like)


def _first_image(operator: LinearOperator, y: Tensor) -> tuple[Tensor, float]:
    """Return a first image, and the level of the first step."""
    if not isinstance(operator, Bayer) or y.is_complex():
        return first_estimate(operator, y), FIRST_LEVEL
    colours = along_edges(y[0].double().cpu().numpy(), operator.colour.cpu().numpy())
    return torch.from_numpy(colours).to(y)[None], MOSAIC_LEVEL


def _estimated(operator: LinearOperator, y: Tensor, start: Tensor, prior: Denoiser | None) -> float:
    cheap = WaveletDenoiser(n_shifts=2)
    if y.ndim == 2 and y.shape[1] >= FEWEST_HELD_OUT and not y.is_complex():
        judge = prior or cheap
        return held_out_level(operator, y, lambda rows, seen, x, level: _split(rows, seen, x, level, judge))
    return noise_level(operator, y, start, lambda x, level: _split(operator, y, x, level, cheap))


def _split(operator: LinearOperator, y: Tensor, start: Tensor, level: float, prior: Denoiser) -> Tensor:
    """Return an image by a few steps."""
    even, weighted, factor = evened(operator, y)
    return split(even, weighted, factor * level, prior, start, **ESTIMATE).x


def _warn(converged: bool, change: float, tol: float, inexact: int) -> None:
    if not converged:
        warnings.warn(
            f"the last step still changed the image by {change:.2g}, above tol={tol:g}: increase max_iter",
            ConvergenceWarning,
            stacklevel=3,
        )
    if inexact:
        warnings.warn(
            f"conjugate gradients did not converge in {inexact} data steps: the operator is ill-conditioned",
            ConvergenceWarning,
            stacklevel=3,
        )


def _like(y: Any, x: Tensor, constant: Tensor | None) -> Any:
    x = x if constant is None else x + constant[0]
    return x if isinstance(y, Tensor) else x.cpu().numpy()

"""Fill the missing pixels of an image by groups of similar patches.

The model of a group of patches and the estimate of a patch from its known pixels are those of
`calepin.imaging.groups`. Which patches are similar, and the mean and covariance of a group, come from the
estimate of the pass before; the first one is an interpolation. The ridge, which is added to the covariance
for what this estimate does not know, falls from pass to pass.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from calepin.core.arguments import check_arguments
from calepin.core.arrays import as_array
from calepin.datasets.noise import GaussianNoise, VaryingGaussianNoise
from calepin.imaging.groups import GroupFilter
from calepin.imaging.result import check_image, from_planes, sigma_of, to_planes

__all__ = ["inpaint", "interpolate_gaps"]

Callback = Callable[[str, float], object]

PATCH_SIZE, GROUP_SIZE, RADIUS, STRIDE = 6, 64, 20, 4
MOST_STEPS = 200.0  # that a standard deviation may have, of the median step between neighbouring pixels
RIDGES = np.geomspace(0.6, 0.006, 12)  # one a pass, in standard deviations of the observed pixels
FAR = 1000.0  # standard deviations of most pixels between areas that single precision does not hold together
GAPS = 8  # between values, the largest, that may divide areas
FEW_KNOWN = 0.01  # share of observed pixels that are too few for groups
FEW = 0.01  # weight of observed pixels in a Gaussian window below which it is widened


def inpaint(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    noise: GaussianNoise | VaryingGaussianNoise | None = None,
    callback: Callable[[str, float], object] | None = None,
) -> NDArray[np.floating]:
    """Return an image whose missing pixels are filled.

    For each patch of a group of similar patches, with mean m and covariance C in the estimate of the pass
    before, the observed pixels M y give the whole patch,

        x = m + S M^T (M (S + sigma^2 I) M^T)^-1 M (y - m),   S = C + ridge I,

    the linear estimate of least mean squared error; overlapping results are averaged. Twelve passes begin
    with an interpolation by Gaussian windows. The estimate is that of Lebrun, Buades and Morel (2013), A
    nonlocal Bayesian image denoising algorithm, with a variance for each pixel, infinite where it is missing.

    Gaps should be narrower than about ten pixels. Wider holes are filled smoothly: nothing is copied into
    them from elsewhere.

    Colour images are transformed to a mean and two differences if all channels of a pixel are missing or
    none; otherwise the patches of the three channels are one. Areas whose values are further apart than 1000
    standard deviations of most pixels, such as a margin of -1e8, are filled each on its own. The result is
    the same, bit for bit, for any number of threads.

    Parameters
    ----------
    image : array (h, w) or (h, w, 3)
        Gray or colour image of any range. NaN marks missing entries, and so does the mask of a `numpy.ma`
        array.
    mask : array (h, w) or of the shape of image, optional
        True where an entry was observed: booleans, 0 and 1, or 0 and 255. Default: all that are not NaN.
        (Masks for `skimage.restoration.inpaint_biharmonic` and OpenCV are the opposite, True where an entry
        is missing: pass ``~mask``.)
    noise : GaussianNoise or VaryingGaussianNoise, optional
        Noise of the observed pixels, which is removed. Default: none; observed pixels stay as they are.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: the current pass, "pass 1" to "pass 12", and the finished
        fraction of the whole work.

    Returns
    -------
    float array of the shape of image
        The filled image, in the dtype of a floating-point image, else float64.

    Raises
    ------
    ValueError
        An image of another shape, infinite where it is observed, or without observed entries; a mask of
        another shape or with other values.
    IncompatibleError
        `GaussianNoise` with an interval of levels.

    Warns
    -----
    UserWarning
        Nothing is missing, and there is no noise: the image is returned as it is. Less than a hundredth
        of the image was observed.

    Examples
    --------
    >>> import numpy as np
    >>> from skimage import data
    >>> from calepin.imaging import inpaint
    >>> clean = data.camera()[100:164, 150:214] / 255
    >>> observed = np.random.default_rng(0).random(clean.shape) < 0.5
    >>> filled = inpaint(np.where(observed, clean, np.nan))
    >>> bool(np.std((filled - clean)[~observed]) < 0.05)
    True
    """
    check_arguments(inpaint, locals())
    pixels, observed = _observed(image, mask)
    sigma = _levels(noise, pixels)
    noisy = bool(sigma.any())
    if observed.all() and not noisy:
        warnings.warn("mask: no entry is missing: the image is returned as it is", stacklevel=2)
        return pixels
    if observed.mean() < FEW_KNOWN:
        warnings.warn(
            f"mask: {observed.mean():.2%} of the image is too little for groups of patches; a smooth filling "
            "as that of skimage.restoration.inpaint_biharmonic may be better",
            stacklevel=2,
        )
    restored = _apart(pixels, observed, sigma, callback or (lambda stage, fraction: None))
    return restored if noisy else np.where(observed, pixels, restored)


def _levels(noise: GaussianNoise | VaryingGaussianNoise | None, image: NDArray) -> NDArray[np.floating]:
    """Return the standard deviation of the noise in the shape of the image."""
    if isinstance(noise, VaryingGaussianNoise):
        sigma = noise.level(image)
        return np.broadcast_to(sigma if sigma.ndim == image.ndim else sigma[..., None], image.shape)
    return np.full(image.shape, 0.0 if noise is None else sigma_of(noise, "inpaint"))


def _apart(
    pixels: NDArray[np.floating], observed: NDArray[np.bool_], sigma: NDArray[np.floating], callback: Callback
) -> NDArray[np.floating]:
    """Return a filled image; areas whose values are far from each other are filled each on its own.

    A missing pixel belongs to the area that a map of both has there, filled as an image.
    """
    far = _far(pixels, observed, float(sigma.max()))
    if far is None:
        return _alike(pixels, observed, sigma, callback)
    known = observed if observed.ndim == 2 else np.asarray(observed.any(axis=2))
    guess = _alike(far.astype(np.float32), known, np.zeros(far.shape), _share(callback, 0))
    place = np.where(known, far, guess > 0.5)
    filled = pixels.copy()
    for k, area in enumerate((~place, place)):
        seen = observed & (area if observed.ndim == 2 else area[..., None])
        if sigma.any() or not observed[area].all():
            filled[area] = _apart(pixels, seen, sigma, _share(callback, 1 + k))[area]
    callback(f"pass {len(RIDGES)}", 1.0)
    return filled


def _share(callback: Callback, k: int) -> Callback:
    """Return the callback for the part k of three."""
    return lambda stage, fraction: callback(stage, (k + fraction) / 3)


def _far(pixels: NDArray[np.floating], observed: NDArray[np.bool_], sigma: float) -> NDArray[np.bool_] | None:
    """Return which pixels are far from most; None if all are so near that they can be filled together.

    They are far beyond the first of the largest gaps between sorted distances from the median of each channel
    that is large beside what most pixels differ by, or the others if most are constant.
    """
    values = np.where(observed, pixels, np.nan).astype(np.float64).reshape(*pixels.shape[:2], -1)
    away = np.abs(values - np.nanmedian(values, axis=(0, 1)))
    distance = np.where(np.isnan(away), -1, away).max(axis=2)
    known, each = distance >= 0, observed.reshape(*distance.shape, -1)
    ordered = np.sort(distance[known])
    gaps = np.diff(ordered)
    for last in np.sort(np.argsort(gaps)[-GAPS:]):
        few, most = sorted((ordered[: last + 1], ordered[last + 1 :]), key=len)
        far = known & (distance > ordered[last])
        each_has_all = each[far].any(axis=0).all() and each[known & ~far].any(axis=0).all()
        if each_has_all and 0 < FAR * max(most.std() or few.std(), sigma) < gaps[last]:
            return far
    return None


def _alike(
    pixels: NDArray[np.floating], observed: NDArray[np.bool_], sigma: NDArray[np.floating], callback: Callback
) -> NDArray[np.floating]:
    """Return a filled image, whose values single precision holds together."""
    centre, unit = pixels[observed].mean(), _unit(pixels, observed)
    if unit == 0:
        return np.where(observed, pixels, centre)
    centred = np.where(observed, pixels - centre, 0)
    # a mean and two differences of colours, unless channels have gaps or noise of their own
    opponent = pixels.ndim == 2 or (_is_shared(observed) and _is_shared(sigma))
    planes = to_planes(centred, unit, opponent=opponent)
    known = observed[..., 0] if opponent and pixels.ndim == 3 else _as_planes(observed)
    sigma = sigma[..., 0] if opponent and pixels.ndim == 3 else _as_planes(sigma)
    level = np.ascontiguousarray(np.where(known, sigma / unit, np.inf), dtype=np.float32)
    filled = _filled(planes, known, level, callback)
    return from_planes(filled, unit, centred, opponent=opponent) + centre


def _unit(pixels: NDArray[np.floating], observed: NDArray[np.bool_]) -> float:
    """Return the standard deviation of observed pixels, less if a few far values would make most of it."""
    steps = []
    for axis in (0, 1):
        both = np.delete(observed, 0, axis) & np.delete(observed, -1, axis)
        steps.append(np.abs(np.diff(pixels, axis=axis))[both])
    step, unit = np.concatenate(steps), float(pixels[observed].std())
    typical = float(np.median(step)) if len(step) else 0.0
    return min(unit, MOST_STEPS * typical) if typical else unit


def _is_shared(values: NDArray) -> bool:
    """Return whether all channels of an array (h, w, channels) are the same."""
    return bool((values == values[..., :1]).all())


def _as_planes(values: NDArray) -> NDArray:
    return values if values.ndim == 2 else np.moveaxis(values, 2, 0)


def _filled(
    planes: NDArray[np.float32],
    known: NDArray[np.bool_],
    level: NDArray[np.float32],
    callback: Callback,
) -> NDArray[np.float32]:
    """Return the filled planes (c, h, w); known and level are of shape (h, w) or (c, h, w)."""
    patch_size = min(PATCH_SIZE, *planes.shape[1:])
    groups = GroupFilter(patch_size, GROUP_SIZE, RADIUS, min(STRIDE, patch_size))
    estimate = np.stack(
        [
            interpolate_gaps(plane, k)
            for plane, k in zip(planes, np.broadcast_to(known, planes.shape), strict=True)
        ]
    )
    for n, ridge in enumerate(RIDGES):

        def report(fraction: float, n: int = n) -> None:
            callback(f"pass {n + 1}", (n + fraction) / len(RIDGES))

        estimate = groups.apply(planes, estimate, level, ridge=float(ridge), report=report)
    return estimate


def interpolate_gaps(plane: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an array, such as a plane or a volume, with means of known pixels in its gaps.

    They are means in Gaussian windows, as wide as is needed to hold some known pixels.
    """
    found, done, width = plane.copy(), known.copy(), 1.0
    while not done.all():
        weight = gaussian_filter(known.astype(np.float64), width)
        near = (weight > FEW) & ~done
        if near.any():
            total = gaussian_filter(np.where(known, plane, 0).astype(np.float64), width)
            found[near] = total[near] / weight[near]
            done |= near
        if width > max(plane.shape):  # the window holds the whole plane
            found[~done] = plane[known].mean()
            break
        width *= 2
    return found


def _observed(image: Any, mask: Any) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return an image of floats, 0 where it is missing, and which entries were observed."""
    values = as_array(image)
    hidden = np.ma.getmaskarray(values)
    values = np.ma.getdata(values)
    if values.dtype.kind == "f":
        hidden = hidden | np.isnan(values)
    if mask is not None and values.ndim in (2, 3):
        hidden = hidden | ~_mask(mask, values.shape)
    pixels = check_image(np.where(hidden, 0, values), integers=True)
    observed = ~hidden
    if not observed.any():
        raise ValueError(f"mask: expected an observed entry, got none among {observed.size}")
    if pixels.ndim == 3 and not observed.any(axis=(0, 1)).all():
        raise ValueError("mask: expected an observed entry in each channel, got a channel without one")
    return pixels.astype(
        np.result_type(pixels, np.float32) if pixels.dtype.kind == "f" else np.float64
    ), observed


def _mask(mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask as booleans of a shape, which is that of the image or of one of its channels."""
    values = as_array(mask)
    if np.ma.count_masked(values):
        raise ValueError("mask: expected an array without a mask of its own, got masked entries")
    values = np.ma.getdata(values)
    if values.shape not in (shape, shape[:2]):
        raise ValueError(f"mask: expected shape {shape}, as the image, or {shape[:2]}, got {values.shape}")
    if values.dtype != bool and not any(np.isin(values, (0, top)).all() for top in (1, 255)):
        raise ValueError(
            "mask: expected True and False, 0 and 1, or 0 and 255, "
            f"got values from {values.min():.4g} to {values.max():.4g}"
        )
    whole = values if values.shape == shape else np.broadcast_to(values[..., None], shape)
    return np.ascontiguousarray(whole != 0)

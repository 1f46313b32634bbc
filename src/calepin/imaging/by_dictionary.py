"""Denoise an image with a dictionary learned from its own patches."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from calepin.core.random import RandomState, numpy_generator
from calepin.imaging.first_pass import RULES, code_planes, learn_atoms, start_atoms
from calepin.imaging.groups import GroupFilter
from calepin.imaging.noise import estimate_noise

__all__ = ["STAGES", "DenoiseResult", "denoise", "from_planes", "to_planes"]

# Passes over groups of similar patches, and the noise level each assumes: a later one starts from a
# better estimate, whose covariances need less shrinkage.
GROUP_PASSES = (
    (GroupFilter(patch_size=8, group_size=32, radius=20, step=4, mean="level"), 1.0),
    (GroupFilter(patch_size=8, group_size=32, radius=20, step=4, mean="level"), 0.95),
    (GroupFilter(patch_size=6, group_size=24, radius=20, step=3), 0.9),
)

STAGES = ("learn", "code", *(f"group {k + 1}" for k in range(len(GROUP_PASSES))))  # for callbacks

# Rows are orthonormal, so that white noise stays white with the same sigma: the mean of the channels
# times sqrt(3), then two differences of colours.
OPPONENT = np.array(
    [
        [1 / np.sqrt(3), 1 / np.sqrt(3), 1 / np.sqrt(3)],
        [1 / np.sqrt(2), 0, -1 / np.sqrt(2)],
        [1 / np.sqrt(6), -2 / np.sqrt(6), 1 / np.sqrt(6)],
    ]
)

Callback = Callable[[str, float], None]


@dataclass(frozen=True)
class DenoiseResult:
    """What `denoise` found.

    Attributes
    ----------
    image : float array
        The denoised image, of the shape and dtype of the noisy one, not clipped.
    sigma : float
        Standard deviation of the noise, given or estimated.
    atoms : float32 array (n_atoms, patch_size ** 2)
        The learned dictionary, unit norm.
    history : list of dict
        One entry for each round of learning: pass, objective, seconds, n_replaced.
    """

    image: np.ndarray
    sigma: float
    atoms: np.ndarray
    history: list[dict[str, float]]


def denoise(
    image: np.ndarray,
    *,
    sigma: float | None = None,
    patch_size: int = 8,
    n_atoms: int = 256,
    rule: str = "ksvd",
    n_iter: int = 5,
    group_passes: int = 3,
    random_state: RandomState = 0,
    callback: Callback | None = None,
) -> DenoiseResult:
    """Remove white Gaussian noise from an image: y = x + n, n ~ N(0, sigma^2 I).

    1. A dictionary D starts from one learned on natural images and goes on learning from the
       noisy image's own patches.
    2. Every patch, overlapping ones too, is coded with as few atoms as bring its residual down to
       the noise: minimise ||z||_0 such that ||x - z D||^2 <= p^2 (1.1 sigma)^2. The decoded patches
       are averaged (Elad and Aharon 2006).
    3. With that estimate as a guide, groups of similar patches are shrunk in dictionaries of their
       own
       (`calepin.imaging.groups`; Lebrun, Buades and Morel 2013), three times.

    Colour is turned into a mean and two differences first, each treated as a gray image, with
    groups found on the mean. Memory beyond a few copies of the image in float32 does not grow with
    its size, and there are no tiles that could leave seams. The same seed gives the same bits,
    whatever the number of threads.

    Parameters
    ----------
    image : float array (h, w) or (h, w, 3)
        Noisy image, gray or colour. Any range will do: [0, 1] is only a custom.
    sigma : float, optional
        Standard deviation of the noise, in the image's units. Default: estimated by
        `calepin.imaging.estimate_noise`. With 0 the image is returned as it is.
    patch_size : int, default=8
        Side p of the patches that the dictionary stands for.
    n_atoms : int, default=256
        Size of the dictionary.
    rule : {"ksvd", "mod", "online"}, default="ksvd"
        How atoms move, as in `calepin.DictionaryLearner`.
    n_iter : int, default=5
        Passes of learning over 20,000 patches; 0 keeps the start dictionary.
    group_passes : {0, 1, 2, 3}, default=3
        How often step 3 is done; 0 gives the image of the dictionary alone.
    random_state : int, Generator, RandomState or None, default=0
        Chooses the patches to learn from.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: a member of `calepin.imaging.by_dictionary.STAGES`
        ("learn", "code", "group 1", ...) and the share of that stage's work that is done.

    Returns
    -------
    DenoiseResult
        The image, the noise level, the atoms and the history of learning.

    Raises
    ------
    ValueError
        An argument outside what is described above; the message names it.

    Examples
    --------
    >>> import numpy as np, calepin
    >>> from skimage import data
    >>> clean = data.camera()[100:200, 150:250] / 255
    >>> noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    >>> result = calepin.denoise(noisy, sigma=0.1)
    >>> bool(np.std(result.image - clean) < 0.45 * np.std(noisy - clean))
    True
    """
    image = _check_image(image, patch_size)
    _check_options(sigma, patch_size, n_atoms, rule, n_iter, group_passes)
    rng = numpy_generator(random_state)
    tell = callback or (lambda stage, fraction: None)

    sigma = estimate_noise(image) if sigma is None else float(sigma)
    start = start_atoms(n_atoms, patch_size, rng)
    if sigma == 0:
        return DenoiseResult(image.copy(), 0.0, start, [])

    noisy = to_planes(image, sigma)
    atoms, history = learn_atoms(
        noisy, start, rule=rule, n_iter=n_iter, rng=rng, report=lambda f: tell("learn", f)
    )
    estimate = code_planes(noisy, atoms, report=lambda f: tell("code", f))
    for k, (groups, level) in enumerate(GROUP_PASSES[:group_passes], start=1):
        estimate = groups.apply(noisy, estimate, level, report=lambda f, k=k: tell(f"group {k}", f))
    return DenoiseResult(from_planes(estimate, sigma, image), sigma, atoms, history)


def to_planes(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return float32 planes (c, h, w) in units of the noise, colours turned into opponent ones."""
    if image.ndim == 2:
        return np.divide(image, sigma, dtype=np.result_type(image, np.float32))[None].astype(np.float32)
    planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for c, weights in enumerate(OPPONENT / sigma):
        planes[c] = image @ weights.astype(image.dtype)
    return planes


def from_planes(planes: np.ndarray, sigma: float, like: np.ndarray) -> np.ndarray:
    """Return the image, of the shape and dtype of `like`, of which `to_planes` would make these planes."""
    out = np.empty(like.shape, dtype=like.dtype)
    if like.ndim == 2:
        np.multiply(planes[0], sigma, out=out, casting="same_kind")
        return out
    for channel in range(3):
        weights = (OPPONENT[:, channel] * sigma).astype(np.float32)
        out[..., channel] = np.tensordot(weights, planes, axes=1)
    return out


def _check_image(image: np.ndarray, patch_size: int) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"image: expected shape (h, w) or (h, w, 3), got {image.shape}")
    if image.dtype.kind != "f":
        raise ValueError(
            f"image: expected floating-point numbers, got {image.dtype} "
            "(skimage.util.img_as_float turns integers into numbers from 0 to 1)"
        )
    _check_integer("patch_size", patch_size, 2)
    smallest = max(patch_size, *(groups.patch_size for groups, _ in GROUP_PASSES), 16)
    if min(image.shape[:2]) < smallest:
        raise ValueError(
            f"image: expected at least {smallest} pixels a side, got {image.shape[0]} x {image.shape[1]}"
        )
    if not np.isfinite(image).all():
        raise ValueError(
            f"image: expected finite values, got {np.count_nonzero(~np.isfinite(image))} NaN or infinities"
        )
    return image


def _check_options(
    sigma: float | None, patch_size: int, n_atoms: int, rule: str, n_iter: int, group_passes: int
) -> None:
    if sigma is not None and not (
        isinstance(sigma, Real) and not isinstance(sigma, bool) and 0 <= float(sigma) < float("inf")
    ):
        raise ValueError(f"sigma: expected a number >= 0 or None, got {sigma!r}")
    _check_integer("n_atoms", n_atoms, 1)
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {sorted(RULES)}, got {rule!r}")
    _check_integer("n_iter", n_iter, 0)
    _check_integer("group_passes", group_passes, 0)
    if group_passes > len(GROUP_PASSES):
        raise ValueError(f"group_passes: expected at most {len(GROUP_PASSES)}, got {group_passes}")


def _check_integer(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")

"""Rate and distortion of a generative dictionary, compared with other methods.

The rate of each method is the size of its numbers after the same quantiser and the same entropy coder
(`calepin.compression.coding`). Models and dictionaries are known to both sides and are not counted.

    latents    those of the model, for an increasing number of bits
    PCA        the first c principal components, for increasing c and number of bits
    OMP        a learned dictionary, k atoms per sample: their indices and their quantised values
    JPEG       all images side by side as one image, so that there is only one header
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.compression.clp import Model
from calepin.compression.coding import Quantiser, encode_integers
from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_shape

__all__ = ["RateDistortion", "components_instead", "rate_distortion"]

_MOST_SAMPLES = 2000  # of the comparison with principal components


@dataclass(frozen=True)
class RateDistortion:
    """Curve of one method: bits per sample, ascending, and the best PSNR in dB at no more bits."""

    bits: NDArray[np.float64]
    psnr: NDArray[np.float64]


def rate_distortion(
    X: ArrayLike,
    model: Model,
    *,
    training: ArrayLike | None = None,
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 10, 12),
    image_shape: tuple[int, int] | None = None,
    seed: int = 0,
) -> dict[str, RateDistortion]:
    """Return the curve of each method, by name.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    model : GenerativeDictionaryLearner
    training : array of shape (n, n_features), optional
        Training data of PCA and of the dictionary. Default: X itself, which favours them.
    bits : tuple of int
        Bits per number before entropy coding.
    image_shape : (height, width), optional
        Shape of a sample in [0, 1], for JPEG. Default: a square if n_features is one, else there is no JPEG.
    seed : int
        Seed of the learned dictionary.

    Raises
    ------
    ValueError
        Data that are not a matrix of finite numbers, or no number of bits.
    """
    check_arguments(rate_distortion, locals())
    if not bits:
        raise ValueError("bits: expected at least one number of bits, got none")
    X = check_array("X", X, ndim=2)
    known = X if training is None else check_array("training", training, ndim=2)
    if known.shape[1] != X.shape[1]:
        raise ValueError(f"training: expected the {X.shape[1]} features of X, got {known.shape[1]}")
    if 0 < np.abs(X).max() < 1e-140:
        raise ValueError("X: expected larger numbers, got squares that are zero")
    side = math.isqrt(X.shape[1])
    shape = (side, side) if image_shape is None else check_shape("image_shape", image_shape, ndim=2)
    if image_shape is not None and math.prod(shape) != X.shape[1]:
        raise ValueError(f"image_shape: expected {X.shape[1]} pixels, as X has features, got {shape}")
    points = {
        "latents": _latents(X, model, bits),
        "PCA": _pca(X, known, bits),
        "OMP": _omp(X, known, bits, seed),
    }
    if math.prod(shape) == X.shape[1]:
        points["JPEG"] = _jpeg(X, shape)
    peak = float(X.max() - X.min()) or 1.0
    return {name: _frontier(found, len(X), peak) for name, found in points.items()}


def components_instead(X: NDArray, content: bytes, restored: NDArray) -> str | None:
    """Return what principal components of the samples would need, if that is less than the content of a file.

    As in `rate_distortion`, they are quantised and coded like latents, and are known to both sides. The
    comparison uses the first 2000 samples.

    Parameters
    ----------
    X, restored : array of shape (n_samples, ...)
        Samples, and what is left of them.
    content : bytes
        Content of a .clp file.
    """
    flat, back = (np.asarray(a, np.float64).reshape(len(X), -1)[:_MOST_SAMPLES] for a in (X, restored))
    if len(flat) < 2:
        return None
    size, error = len(content) * len(flat) / len(X), float(np.mean((back - flat) ** 2))
    fewer = [point for point in _pca(flat, flat, (4, 6, 8)) if point[0] < size and point[1] <= error]
    if not fewer:
        return None
    least, its_error = min(fewer)
    scale = max(float(np.linalg.norm(flat)), 1e-300) / math.sqrt(flat.size)
    return f"{least * len(X) / len(flat):.0f} bytes at error {math.sqrt(its_error) / scale:.3f}"


# Each function returns (bytes, mean squared error) for each of its settings.
Points = list[tuple[int, float]]


def _latents(X: NDArray, model: Model, bits: tuple[int, ...]) -> Points:
    latents = np.asarray(model.transform(X))
    return [_coded(latents, b, X, model.inverse_transform) for b in bits]


def _pca(X: NDArray, known: NDArray, bits: tuple[int, ...]) -> Points:
    from sklearn.decomposition import PCA

    most = min(64, *known.shape)
    pca: Any = PCA(most, svd_solver="full").fit(known)
    scores, points = pca.transform(X), []
    for c in sorted({max(1, round(most * part)) for part in (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)}):
        basis = pca.components_[:c]
        points += [_coded(scores[:, :c], b, X, lambda z, basis=basis: z @ basis + pca.mean_) for b in bits]
    return points


def _omp(X: NDArray, known: NDArray, bits: tuple[int, ...], seed: int) -> Points:
    from calepin.estimators.dictionary import DictionaryLearner
    from calepin.solvers.coders.encode import sparse_encode

    mean = known.mean(0)
    n_components = min(256, len(known))
    learner = DictionaryLearner(
        n_components, rule="mod", coder="omp", n_nonzero=min(5, n_components), max_iter=15, random_state=seed
    ).fit(known - mean)
    atoms, points = learner.components_, []
    for k in (1, 2, 4, 8, 16):
        if k > min(n_components, X.shape[1]):
            break
        codes = sparse_encode(X - mean, atoms, method="omp", n_nonzero=k, output="csr")
        values = codes.data[:, None]
        places = len(encode_integers(np.diff(codes.indices, prepend=0)[:, None]).payload)
        for b in bits:
            quantiser = Quantiser.fit(values, bits=b)
            integers = quantiser.encode(values)
            rounded = codes.copy()
            rounded.data = quantiser.decode(integers)[:, 0]
            error = float(np.mean((rounded @ atoms + mean - X) ** 2))
            points.append((places + len(encode_integers(integers).payload), error))
    return points


def _jpeg(X: NDArray, shape: tuple[int, ...]) -> Points:
    from PIL import Image

    height, width = shape
    columns = math.ceil(math.sqrt(len(X)))
    rows = math.ceil(len(X) / columns)
    tiles = np.zeros((rows * columns, height, width))
    tiles[: len(X)] = X.reshape(-1, height, width).clip(0, 1)
    sheet = tiles.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    image = Image.fromarray(np.rint(255 * sheet.reshape(rows * height, columns * width)).astype(np.uint8))
    points = []
    for quality in (5, 10, 20, 30, 50, 70, 85, 95):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        restored = np.asarray(Image.open(file), np.float64) / 255
        back = (
            restored.reshape(rows, height, columns, width).transpose(0, 2, 1, 3).reshape(-1, height * width)
        )
        points.append((file.tell(), float(np.mean((back[: len(X)] - X) ** 2))))
    return points


def _coded(
    numbers: NDArray, bits: int, X: NDArray, restore: Callable[[NDArray], NDArray]
) -> tuple[int, float]:
    quantiser = Quantiser.fit(numbers, bits=bits)
    integers = quantiser.encode(numbers)
    error = float(np.mean((restore(quantiser.decode(integers)) - X) ** 2))
    return len(encode_integers(integers).payload), error


def _frontier(points: Points, n: int, peak: float) -> RateDistortion:
    """Return the settings for which no setting with fewer bits is better."""
    best, kept = math.inf, []
    for size, error in sorted(points):
        if error < best:
            best = error
            kept.append((8 * size / n, 10 * math.log10(peak**2 / max(error, 1e-300))))
    bits, psnr = np.array(kept).T
    return RateDistortion(bits, psnr)

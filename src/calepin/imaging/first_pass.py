"""An image coded in a dictionary learned from its own noisy patches.

    minimise over D   sum over patches of ||z_i||_0
    such that         ||x_i - z_i D||^2 <= p^2 (C sigma)^2   for every patch x_i without its mean

Elad and Aharon (2006), Image denoising via sparse and redundant representations over learned
dictionaries; the initial dictionary of natural images and the error constant C near 1.1 are also theirs.
All functions use units of the noise: sigma = 1. If its level varies, each patch is divided by the root mean
square of its levels, coded, and multiplied again. If it is correlated, patches are whitened, coded with
whitened atoms, and mapped back (`calepin.imaging.whitening`).
"""

from collections.abc import Callable, Sequence
from importlib.resources import as_file, files

import numpy as np
import torch
from scipy import sparse
from scipy.ndimage import uniform_filter

from calepin.core.files import load_atoms
from calepin.core.random import RandomState, numpy_generator
from calepin.imaging.patches import add_patches, bands, centred_patches, random_patches
from calepin.imaging.whitening import Whitening
from calepin.learning.atoms import AtomSet, dct_atoms
from calepin.learning.batches import ArrayBatches
from calepin.learning.rules.classical import KSVD, MOD, Online
from calepin.learning.train import TrainState, train
from calepin.solvers.coders.encode import dense_problem
from calepin.solvers.coders.pursuit import PursuitCoder

__all__ = [
    "RULES",
    "USE_PATCHES",
    "atom_use",
    "atoms_of_patches",
    "code_planes",
    "learn_atoms",
    "learn_shared_atoms",
    "natural_atoms",
    "start_atoms",
]

RULES = {rule.name: rule for rule in (KSVD, MOD, Online)}
ERROR_CONSTANT = 1.1
TRAINING_PATCHES = 20_000
USE_PATCHES = 10_000  # for the use of the atoms
BATCH_SIZE = 2_000
CONSTANT = 1e-6  # of the norm of an atom without its mean
LEAST_LEVEL = 1e-3  # of the noise of a patch, by which it is divided
NATURAL = "natural_8x8.safetensors"
Report = Callable[[float], None]


def natural_atoms() -> np.ndarray:
    """Return the shipped dictionary (256, 64) of 8x8 patches of natural images; see its .md card."""
    with as_file(files("calepin") / "weights" / NATURAL) as path:
        return load_atoms(path)


def start_atoms(n_components: int, patch_size: int, random_state: RandomState) -> np.ndarray:
    """Return initial atoms: the shipped ones if their sizes fit, else overcomplete cosines.

    The constant cosine is left out, because patches have zero mean.
    """
    natural = natural_atoms()
    if patch_size**2 == natural.shape[1]:
        chosen = natural[:n_components]
    else:
        chosen = dct_atoms(n_components + 1, patch_size**2)[1:]
    rest = numpy_generator(random_state).standard_normal((n_components - len(chosen), patch_size**2))
    return np.concatenate([chosen, rest]).astype(np.float32)


def atoms_of_patches(name: str, atoms: np.ndarray) -> np.ndarray:
    """Return atoms (n_components, p^2) of patches, without their means and of unit norm, as float32.

    Constant atoms are left out: patches have zero mean.

    Raises
    ------
    ValueError
        If they are no square patches of at least 2 x 2 pixels, or all of them are constant.
    """
    side = int(np.sqrt(atoms.shape[-1]))
    if atoms.ndim != 2 or side < 2 or side**2 != atoms.shape[1]:
        raise ValueError(f"{name}: expected atoms of square patches (n_components, p * p), got {atoms.shape}")
    centred = atoms - atoms.mean(axis=1, keepdims=True, dtype=np.float64)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    kept = norms[:, 0] > CONSTANT * np.linalg.norm(atoms, axis=1)
    if not kept.any():
        raise ValueError(f"{name}: expected atoms that are not constant")
    return (centred[kept] / norms[kept]).astype(np.float32)


def learn_atoms(
    planes: np.ndarray,
    start: np.ndarray,
    *,
    rule: str,
    n_iter: int,
    random_state: RandomState,
    level: np.ndarray | None = None,
    whitening: Whitening | None = None,
    report: Report = lambda fraction: None,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Return atoms learned from patches of noisy planes (c, h, w), and the learning history.

    `level` is that of the noise, (h, w) or (c, h, w). Default: 1. With `whitening`, atoms are whitened ones.
    """
    patch_size = int(np.sqrt(start.shape[1]))
    if level is not None:
        planes = planes / np.stack([_smoothed(_plane_of(level, c), patch_size) for c in range(len(planes))])
    generator = numpy_generator(random_state)
    if whitening is None:
        samples = random_patches(planes, patch_size, TRAINING_PATCHES, generator)
    else:
        samples = whitening.samples(planes, TRAINING_PATCHES, generator)
    return _learn(samples, start, rule, n_iter, generator, report)


def learn_shared_atoms(
    images: Sequence[Callable[[], np.ndarray]],
    start: np.ndarray,
    *,
    rule: str,
    n_iter: int,
    random_state: RandomState,
    report: Report = lambda fraction: None,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Return atoms learned from patches of several images, and the learning history.

    `images` are functions that return the planes (c, h, w) of an image, so that one at a time is in memory.
    """
    patch_size, generator = int(np.sqrt(start.shape[1])), numpy_generator(random_state)
    each = -(-TRAINING_PATCHES // len(images))
    drawn = []
    for k, planes in enumerate(images):
        drawn.append(random_patches(planes(), patch_size, each, generator))
        report(0.5 * (k + 1) / len(images))
    samples = np.concatenate(drawn)
    return _learn(samples, start, rule, n_iter, generator, lambda part: report(0.5 + 0.5 * part))


def _learn(
    samples: np.ndarray,
    start: np.ndarray,
    rule: str,
    n_iter: int,
    generator: np.random.Generator,
    report: Report,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Return atoms learned from patches (n, p^2), and the history."""
    # The online rule updates atoms after every batch; the others work best with all samples at once.
    data = ArrayBatches(
        samples, BATCH_SIZE if rule == "online" else None, seed=int(generator.integers(2**31))
    )
    learner = RULES[rule](_coder(start), AtomSet("sphere"))
    state = TrainState(learner.init(torch.from_numpy(start.copy())))
    total = n_iter * (data.n_steps or 1)
    train(learner, data, state, max_iter=n_iter, callbacks=[lambda state: report(state.n_steps / total)])
    return state.learned.atoms.numpy(), state.history


def code_planes(
    planes: np.ndarray,
    atoms: np.ndarray,
    *,
    level: np.ndarray | None = None,
    whitening: Whitening | None = None,
    report: Report = lambda fraction: None,
) -> np.ndarray:
    """Return the planes (c, h, w) decoded from sparse codes of their patches, which are averaged.

    `level` is that of the noise, (h, w) or (c, h, w). Default: 1. With `whitening`, atoms are whitened ones.

    A patch whose residual is above the noise even with the largest number of atoms is not sparse in them. It
    stays as it is, with a code of p^2 unit vectors: decoded, it would lose more texture than noise. With
    `whitening` it is decoded: most of its atoms are for directions that have hardly any noise.
    """
    patch_size, coder = int(np.sqrt(atoms.shape[1])), _coder(atoms)
    with_pixels = np.concatenate([atoms, np.eye(atoms.shape[1], dtype=atoms.dtype)])
    estimate = np.empty_like(planes)
    weight = np.empty(planes.shape[1:], dtype=planes.dtype)
    walk = list(bands(planes.shape[1:], patch_size))
    for c, plane in enumerate(planes):
        estimate[c], weight[:] = 0, 0
        pilot = None if whitening is None else whitening.pilot[c]
        decoded = with_pixels if whitening is None else with_pixels @ whitening.backward[c]
        for k, (first, last) in enumerate(walk):
            patches, means = centred_patches(plane, patch_size, first, last, means_of=pilot)
            patches = patches if whitening is None else patches @ whitening.forward[c]
            scale = None if level is None else _patch_levels(_plane_of(level, c), patch_size, first, last)
            patches = patches if scale is None else patches / scale
            problem = dense_problem(torch.from_numpy(patches), torch.from_numpy(atoms))
            codes = coder.encode(problem).values
            if whitening is None:
                codes = _keep_dense(coder, codes, patches, atoms)
            if scale is not None:
                codes.data *= np.repeat(scale[:, 0], np.diff(codes.indptr))
            add_patches(estimate[c], weight, codes, decoded, means, first)
            report((c + (k + 1) / len(walk)) / len(planes))
        estimate[c] /= weight
    return estimate


def _plane_of(level: np.ndarray, c: int) -> np.ndarray:
    """Return the levels of plane c: all planes share those of an array (h, w)."""
    return level if level.ndim == 2 else level[c]


def _smoothed(level: np.ndarray, patch_size: int) -> np.ndarray:
    """Return the root mean square of levels (h, w) around each pixel, never near 0."""
    mean_square = uniform_filter(np.square(level, dtype=np.float64), patch_size)
    return np.sqrt(np.maximum(mean_square, LEAST_LEVEL**2)).astype(np.float32)


def _patch_levels(level: np.ndarray, patch_size: int, start: int, stop: int) -> np.ndarray:
    """Return the root mean square of the levels of each patch (n, 1), for patch rows `start` to `stop`."""
    squares = np.square(level[start : stop + patch_size - 1])
    windows = np.lib.stride_tricks.sliding_window_view(squares, (patch_size, patch_size))
    mean_square = windows.mean(axis=(2, 3)).reshape(-1, 1)
    return np.sqrt(np.maximum(mean_square, np.float32(LEAST_LEVEL**2)))


def atom_use(planes: np.ndarray, atoms: np.ndarray, *, random_state: RandomState = 0) -> np.ndarray:
    """Return the fraction of `USE_PATCHES` random patches of planes (c, h, w) whose code has each atom."""
    patches = random_patches(planes, int(np.sqrt(atoms.shape[1])), USE_PATCHES, random_state)
    codes = _coder(atoms).encode(dense_problem(torch.from_numpy(patches), torch.from_numpy(atoms))).values
    return np.bincount(codes.indices, minlength=len(atoms)) / len(patches)


def _keep_dense(
    coder: PursuitCoder, codes: sparse.csr_array, patches: np.ndarray, atoms: np.ndarray
) -> sparse.csr_array:
    """Return the codes, with p^2 more columns for the pixels of patches that are not sparse."""
    counts = np.diff(codes.indptr)
    dense = counts == coder.n_nonzero
    dense[dense] = np.square(patches[dense] - codes[dense] @ atoms).sum(axis=1) > coder.tol
    if not dense.any():
        return codes
    n, q = patches.shape
    kept = ~np.repeat(dense, counts)
    n_coded, n_pixels = np.where(dense, 0, counts), np.where(dense, q, 0)
    coded = (codes.data[kept], codes.indices[kept], np.append(0, np.cumsum(n_coded)))
    pixels = (patches[dense].ravel(), np.tile(np.arange(q), dense.sum()), np.append(0, np.cumsum(n_pixels)))
    blocks = [sparse.csr_array(coded, shape=codes.shape), sparse.csr_array(pixels, shape=(n, q))]
    return sparse.csr_array(sparse.hstack(blocks, format="csr"))


def _coder(atoms: np.ndarray) -> PursuitCoder:
    n_components, n_features = atoms.shape
    # A patch that needs more atoms than half its pixels is noise for the dictionary: stop there.
    most = min(max(1, n_features // 2), n_components)
    return PursuitCoder(most, n_features * ERROR_CONSTANT**2, selection="ols", certify=False)

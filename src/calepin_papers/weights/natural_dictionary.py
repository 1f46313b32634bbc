"""Train the dictionary of natural images that calepin ships.

    CALEPIN_DATA=... python -m calepin_papers.weights.natural_dictionary

reads the 400 images of train400 and writes src/calepin/weights/natural_8x8.safetensors: 256 atoms
of 8x8 pixels that minimise the mean of 0.5 ||x - z D||^2 + 0.15 ||z||_1 over patches x in [0, 1]
without their mean, flat ones left out (on two cores: a minute).
"""

from pathlib import Path

import numpy as np

import calepin
from calepin.imaging import random_patches
from calepin_papers._common import gray_images

PATCH_SIZE, N_COMPONENTS, ALPHA, SEED = 8, 256, 0.15, 0
PATCHES_PER_IMAGE = 1500
FLAT = 0.02  # a patch of a smaller standard deviation is left out
OUT = Path(calepin.__file__).parent / "weights" / "natural_8x8.safetensors"


def training_patches() -> np.ndarray:
    """Return patches (n, 64) float32 of train400, without their mean."""
    rng = np.random.default_rng(SEED)
    taken = []
    for image in gray_images("train400"):
        patches = random_patches(image.astype(np.float32)[None], PATCH_SIZE, PATCHES_PER_IMAGE, rng)
        taken.append(patches[patches.std(axis=1) > FLAT])
    return np.concatenate(taken)


def main() -> None:
    """Learn, sort the atoms by use, write the weights."""
    X = training_patches()
    learner = calepin.DictionaryLearner(
        N_COMPONENTS, alpha=ALPHA, rule="online", max_iter=2, random_state=SEED, verbose=True
    ).fit(X)
    # The most used atoms come first: `calepin.denoise` cuts the tail off for a smaller dictionary.
    usage = np.abs(learner.transform(X[:50_000])).sum(axis=0)
    atoms = learner.components_[np.argsort(-usage, kind="stable")].astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    learner.components_ = atoms
    learner.save(OUT)
    print(f"{OUT}: {len(atoms)} atoms, objective {-learner.score(X[:50_000]):.5f}")


if __name__ == "__main__":
    main()

"""Train the dictionary of natural images that calepin ships.

    CALEPIN_DATA=... python -m benchmarks.train_natural_dictionary

reads the 400 images of train400 and writes src/calepin/weights/natural_8x8.safetensors: 256 atoms
of 8x8 pixels that minimise the mean of 0.5 ||x - z D||^2 + 0.15 ||z||_1 over patches x in [0, 1]
without their mean, flat ones left out (on two cores: a minute).
"""

from pathlib import Path

import numpy as np

import calepin
from calepin.core.files import save_arrays
from calepin.datasets import data_path, read_image
from calepin.imaging import random_patches

PATCH_SIZE, N_ATOMS, ALPHA, SEED = 8, 256, 0.15, 0
PATCHES_PER_PICTURE = 1500
FLAT = 0.02  # standard deviation under which a patch has nothing to teach
OUT = Path(calepin.__file__).parent / "weights" / "natural_8x8.safetensors"


def training_patches() -> np.ndarray:
    rng = np.random.default_rng(SEED)
    taken = []
    for path in sorted(data_path("train400").glob("*.png")):
        plane = read_image(path).pixels.astype(np.float32)
        patches = random_patches(plane[None], PATCH_SIZE, PATCHES_PER_PICTURE, rng)
        taken.append(patches[patches.std(axis=1) > FLAT])
    return np.concatenate(taken)


def main() -> None:
    X = training_patches()
    learner = calepin.DictionaryLearner(
        N_ATOMS, alpha=ALPHA, rule="online", max_iter=2, random_state=SEED, verbose=True
    ).fit(X)
    # The most used atoms come first: `calepin.denoise` cuts the tail off for a smaller dictionary.
    usage = np.abs(learner.transform(X[:50_000])).sum(axis=0)
    atoms = learner.components_[np.argsort(-usage, kind="stable")].astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    parameters = {
        "alpha": ALPHA,
        "data": "train400 (400 gray crops of Berkeley segmentation photographs)",
        "made_by": "python -m benchmarks.train_natural_dictionary",
        "n_samples": len(X),
        "objective": -learner.score(X[:50_000]),
        "random_state": SEED,
    }
    save_arrays(OUT, "dictionary", {"components": atoms}, parameters)
    print(f"{OUT}: {len(atoms)} atoms, objective {parameters['objective']:.5f}")


if __name__ == "__main__":
    main()

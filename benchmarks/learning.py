"""Dictionary learning against SPAMS and scikit-learn: 50,000 patches 8x8, 256 atoms, alpha .1."""

from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning

from benchmarks.patches import patches
from benchmarks.runner import Comparison, Contender
from calepin import DictionaryLearner, sparse_encode

ALPHA = 0.1
CONTRAST = 0.7


@cache
def _patches() -> np.ndarray:
    return patches(50_000, 8, contrast=CONTRAST)


def _objective(atoms: Any) -> dict[str, float]:
    """Return the mean objective of all patches, each coded exactly."""
    X, atoms = _patches(), np.ascontiguousarray(atoms, dtype=np.float32)
    codes = sparse_encode(X, atoms, method="lasso", alpha=ALPHA, output="csr")
    E = X.astype(np.float64) - codes @ atoms.astype(np.float64)
    return {"objective": float(0.5 * (E * E).sum() + ALPHA * np.abs(codes).sum()) / len(X)}


def _learners() -> list[Contender]:
    import spams

    X = _patches()
    columns = np.asfortranarray(X.T)
    threads = torch.get_num_threads()

    def spams_learner(batches: int) -> Contender:
        def learn() -> Any:
            settings: dict[str, Any] = {"lambda1": ALPHA, "batchsize": 512, "iter": batches}
            atoms: Any = spams.trainDL(columns, K=256, numThreads=threads, verbose=False, **settings)
            return atoms.T

        return Contender(f"spams.trainDL, {batches} batches", learn, _objective)

    return [_ours(4), _ours(8), spams_learner(400), spams_learner(800)]


def _ours(passes: int) -> Contender:
    learner = DictionaryLearner(256, alpha=ALPHA, max_iter=passes, tol=0, random_state=0)
    name = f"calepin online, {passes} passes"
    return Contender(name, lambda: learner.fit(_patches()).components_, _objective)


def _sklearn() -> list[Contender]:
    settings: dict[str, Any] = {"alpha": ALPHA, "batch_size": 512, "max_iter": 1, "tol": 0, "random_state": 0}
    learner = MiniBatchDictionaryLearning(256, max_no_improvement=None, **settings)  # type: ignore[arg-type]
    name = "scikit-learn MiniBatch, 1 pass"
    return [_ours(1), Contender(name, lambda: learner.fit(_patches()).components_, _objective)]


COMPARISONS = [
    Comparison(
        "learning",
        "Dictionary learning, 50,000 patches 8x8, 256 atoms, alpha .1",
        "SPAMS's objective in SPAMS's time or less",
        _learners,
        rounds=2,
    ),
    Comparison("learning-sklearn", "The same beside scikit-learn, one pass", "faster", _sklearn, rounds=1),
]

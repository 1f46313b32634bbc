"""Planted atoms in signals as they are recorded: ``python -m benchmarks.recorded_signals [SEEDS]``.

20 signals of 500 samples with two smooth atoms of 36 samples, each five times in every signal with amplitude
5, and white noise of deviation .3. Each row is a way of recording the same signals: the largest filter error
(over atoms, at the best shift) of ``ConvolutionalDictionaryLearner(2, 36, alpha="auto", random_state=seed)``
for each seed, and CPU seconds of all fits. The bar is an error of .2.
"""

import sys
import time

import numpy as np

from calepin import ConvolutionalDictionaryLearner
from calepin.datasets import simulate_convolutional
from calepin.metrics import filter_error

N_SIGNALS, LENGTH, KERNEL, BAR = 20, 500, 36, 0.2


def artefacts(X: np.ndarray, seed: int) -> np.ndarray:
    """Return the signals with ten samples of +500 in one of them, and of -500 in another."""
    rng = np.random.default_rng(seed)
    X = X.copy()
    for row, size in zip(rng.choice(N_SIGNALS, 2, replace=False), (500, -500), strict=True):
        start = int(rng.integers(LENGTH - 10))
        X[row, 0, start : start + 10] += size
    return X


def gaps(X: np.ndarray, seed: int) -> np.ndarray:
    """Return the signals without a tenth of their samples."""
    return np.where(np.random.default_rng(seed).random(X.shape) < 0.1, np.nan, X)


RECORDED = {
    "plain": lambda X, _: X,
    "offset of 5": lambda X, _: X + 5,
    "in volts (x 1e-6)": lambda X, _: X * 1e-6,
    "two artefacts": artefacts,
    "10 % missing": gaps,
    "drift of 8": lambda X, _: X + np.linspace(0, 8, LENGTH),
}


def main() -> None:
    """Print the errors of each way of recording."""
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    drawn = [
        simulate_convolutional(
            N_SIGNALS, (LENGTH,), n_components=2, kernel_size=(KERNEL,), likelihood="gaussian", noise=0.3,
            random_state=seed,
        )
        for seed in seeds
    ]  # fmt: skip
    for name, record in RECORDED.items():
        begun = time.process_time()
        errors = []
        for seed, data in zip(seeds, drawn, strict=True):
            learner = ConvolutionalDictionaryLearner(2, KERNEL, alpha="auto", random_state=seed)
            learner.fit(record(data.X, seed))
            errors.append(filter_error(learner.components_, data.atoms, max_shift=None).max())
        within = sum(error <= BAR for error in errors)
        print(
            f"{name:18} {' '.join(f'{error:.3f}' for error in errors)}   {within} of {len(errors)} within "
            f"{BAR}, {time.process_time() - begun:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Train the two VAEs that calepin ships, of MNIST's digits and of scikit-learn's.

``python -m calepin_papers.weights.vae [mnist|digits]``; the first needs CALEPIN_DATA.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calepin
from calepin.datasets import load_digits, load_mnist
from calepin.learning import ArrayBatches, TrainState, VAERule, train
from calepin.networks import VAE

WEIGHTS = Path(calepin.__file__).parent / "weights"
BATCH = 128


@dataclass(frozen=True)
class Training:
    """Sizes of a network and how long it is trained at each learning rate."""

    sizes: dict[str, int]
    passes: dict[float, int]


TRAININGS = {
    "mnist": Training({"latent_dim": 20, "n_hidden": 400, "n_features": 784}, {1e-3: 20, 2e-4: 6}),
    "digits": Training({"latent_dim": 10, "n_hidden": 100, "n_features": 64}, {1e-3: 150, 2e-4: 50}),
}


def digits_split() -> tuple[np.ndarray, np.ndarray]:
    """Return the first 1500 of scikit-learn's digits for training, and the others for a test."""
    pixels = load_digits()[0]
    return pixels[:1500], pixels[1500:]


def main(name: str) -> None:
    """Train, measure on the test set, write weights."""
    training = TRAININGS[name]
    X, test = (load_mnist("train")[0], load_mnist("test")[0]) if name == "mnist" else digits_split()
    network = VAE(**training.sizes)
    data = ArrayBatches(X, BATCH, seed=0)
    state: TrainState | None = None
    for rate, passes in training.passes.items():
        rule = VAERule(network, optimizer=partial(torch.optim.Adam, lr=rate))
        done = 0 if state is None else state.n_passes
        state = TrainState(rule.init(), n_passes=done)
        train(rule, data, state, max_iter=done + passes)
        network = state.learned.network
    with torch.no_grad():
        elbo = network.negative_elbo(torch.from_numpy(test), torch.Generator().manual_seed(0)).mean()
    card: dict[str, Any] = {
        "data": f"{name}, {len(X)} digits in [0, 1]",
        "training": f"Adam, batches of {BATCH}, passes by learning rate: {training.passes}, seed 0",
        "test": f"minus the evidence lower bound of the {len(test)} others: {float(elbo):.2f} nats",
    }
    network.half().save(WEIGHTS / f"vae_{name}.safetensors", card=card)
    print(card)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TRAININGS:
        main(chosen)

"""Random number generators from seeds.

Estimators take scikit-learn's `random_state`; lower-level functions take a `generator`. calepin neither
reads nor changes a global random state.
"""

import numbers

import numpy as np
import torch

__all__ = ["RandomState", "numpy_generator", "randn", "torch_generator"]

RandomState = int | np.random.Generator | np.random.RandomState | None
"""Seed of an estimator: None for a fresh seed, an integer, or one of NumPy's generators."""


def numpy_generator(random_state: RandomState = None) -> np.random.Generator:
    """Return a NumPy generator for `random_state`.

    A Generator is returned unchanged, so its state advances with every draw. The next draw of a RandomState
    is used as the seed.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    if random_state is None or (isinstance(random_state, numbers.Integral) and random_state >= 0):
        return np.random.default_rng(random_state)
    raise ValueError(
        "random_state: expected None, an integer of at least 0, or a NumPy Generator or "
        f"RandomState, got {random_state!r}"
    )


def torch_generator(
    random_state: RandomState | torch.Generator = None, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a torch generator on `device`; a torch.Generator is returned unchanged."""
    if isinstance(random_state, torch.Generator):
        return random_state
    # torch seeded with 0, 1, 2, ... gives related streams; NumPy mixes the seed first
    seed = int(numpy_generator(random_state).integers(2**63))
    return torch.Generator(device=device).manual_seed(seed)


def randn(
    shape: tuple[int, ...] | torch.Size, *, like: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Return standard normal numbers with the dtype and device of `like`.

    They are drawn on the generator's device: with a CPU generator, a GPU gets the same numbers as the CPU.
    """
    device = like.device if generator is None else generator.device
    return torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)

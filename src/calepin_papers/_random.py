"""Random numbers of torch from a seed, mixed by NumPy."""

import numpy as np
import torch

__all__ = ["torch_generator"]


def torch_generator(seed: int | np.random.Generator) -> torch.Generator:
    """Return a torch generator on the CPU, seeded with one draw of NumPy's generator for `seed`.

    torch seeds its streams for 0, 1, 2, ... in a way that leaves them related; NumPy mixes the seed first.
    """
    return torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**63)))

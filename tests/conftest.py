"""Shared fixtures: seeded random numbers, the public test sets where they are, restored threads."""

import os
from pathlib import Path

# Before SciPy is imported: without it scikit-learn skips some of its estimator checks.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
import torch


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def public_data() -> Path:
    """Return the folder that CALEPIN_DATA names, or skip the test."""
    folder = os.environ.get("CALEPIN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CALEPIN_DATA does not name the folder of the public test sets")
    return Path(folder)


@pytest.fixture
def with_threads():
    """Return a function that runs another one on a given number of threads."""
    before = torch.get_num_threads()

    def run(n_threads, function):
        torch.set_num_threads(n_threads)
        try:
            return function()
        finally:
            torch.set_num_threads(before)

    yield run
    torch.set_num_threads(before)

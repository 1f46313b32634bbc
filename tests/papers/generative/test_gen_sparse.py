"""A generator of sparse vectors in miniature."""

from dataclasses import replace

import pytest
import torch

from calepin.experiments import find, perform
from calepin.generators import LatentProblem
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.problem import Problem
from calepin.solvers import decode
from calepin_papers import EXPERIMENTS
from calepin_papers.generative.sparse import GEN_SPARSE, CodedKSparse, Settings

TINY = Settings(n_draws=1, n_iter=6, n_batch=120, n_starts=1)


def test_it_is_registered():
    assert find(["gen-sparse"], EXPERIMENTS) == [GEN_SPARSE]


def test_algorithm_1_learns_with_the_oracle_and_not_without(tmp_path):
    result = perform(replace(GEN_SPARSE, quick=TINY), tmp_path, seed=1)
    values = result["values"]
    assert values["error_oracle"] < 0.25 * values["error_start"]
    assert values["error_mod"] < 0.25 * values["error_start"]
    assert values["error_random"] > values["error_start"]


def test_every_sparse_vector_is_in_the_range(rng):
    """Latents of codes give the codes back: the generator captures k-sparsity."""
    codes = torch.zeros(50, 30, dtype=torch.float64)
    for row in codes:
        row[rng.choice(30, 2, replace=False)] = torch.from_numpy(rng.normal(size=2))
    generator = CodedKSparse(2, 30)
    assert float((generator(generator.latents(codes)) - codes).abs().max()) < 1e-12
    assert float((generator(torch.randn(500, 4)) != 0).sum(1).max()) <= 2


def test_decoding_starts_at_the_codes_of_omp(rng):
    atoms = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(30, 60))))
    generator = CodedKSparse(2, 30)
    z = torch.from_numpy(rng.normal(size=(40, 4)))
    problem = LatentProblem(Problem(Dense(3 * atoms), Gaussian(), generator(z) @ (3 * atoms)), generator)
    assert float(decode(problem).objective.max()) == pytest.approx(0, abs=1e-10)

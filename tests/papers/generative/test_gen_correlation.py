"""The update of Algorithm 1 and A - A*, in miniature."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.generative import convergence, correlation
from calepin_papers.generative.correlation import ALPHA, BETA, GEN_CORRELATION, Settings, along

TINY = Settings(convergence.Settings(n_draws=1, n_batch=100, n_iter=6), n_batches=5)


def test_it_is_registered_and_its_claims_hold(tmp_path):
    assert find(["gen-correlation"], EXPERIMENTS) == [GEN_CORRELATION]
    claims = perform(replace(GEN_CORRELATION, quick=TINY), tmp_path, seed=0)["claims"]
    assert all(claim["holds"] for claim in claims), claims


def test_without_the_preconditioner_the_update_is_not_correlated(monkeypatch, tmp_path):
    monkeypatch.setattr(
        convergence, "preconditioner", lambda *args, like, **more: 0.1 * torch.eye(len(like)).to(like)
    )
    claims = perform(replace(GEN_CORRELATION, quick=TINY), tmp_path, seed=0)["claims"]
    assert not claims[0]["holds"]
    assert not claims[1]["holds"]


def test_correlation_is_that_of_the_definition():
    """With the measured alpha in place of 1/4 it is an equality for one column, and holds for all."""
    found = along(TINY, 0.0, 3)
    steps = islice(convergence.iterations(TINY.runs, convergence.Variant(eta=correlation.ETA), 3), 3)
    for alpha, step in zip(found["alpha"], steps, strict=False):
        d, g = step.atoms - step.truth, step.atoms - step.moved(1.0)
        room = (d * g).sum(1) - alpha * d.square().sum(1) - BETA * g.square().sum(1)
        assert float(room.min()) == pytest.approx(0, abs=1e-12)


def test_an_update_that_is_the_error_is_correlated():
    """g = d gives alpha = 1 - 1/25, far above 1/4; with decoding from the truth the first is near it."""
    assert ALPHA < along(TINY, 0.0, 1)["alpha_whole"][0] < 1 - BETA + 0.05


def test_noise_needs_an_eps_and_the_theorem_allows_more():
    found = along(TINY, 0.5, 0)
    assert 0 < np.max(found["eps"]) < found["eps_theory"]

"""Supports and constants of the theorems in miniature: what they say, and what breaks them."""

from dataclasses import replace

import numpy as np
import pytest

from calepin.experiments import perform
from calepin_papers.pudle import constants, support
from calepin_papers.pudle.constants import PUDLE_CONSTANTS
from calepin_papers.pudle.support import PUDLE_SUPPORT

SIZES = {"n_features": 30, "n_components": 40, "n_nonzero": 2}
TINY = {
    PUDLE_SUPPORT: support.Settings(n_samples=20, n_draws=2, n_unfold=500, **SIZES),
    PUDLE_CONSTANTS: constants.Settings(
        n_samples=150, n_jacobians=3, n_draws=2, layers=(2, 10, 60, 100), n_passes=20, **SIZES
    ),
}


def run(experiment, folder, settings=None):
    return perform(replace(experiment, quick=settings or TINY[experiment]), folder, seed=1)


@pytest.mark.parametrize("experiment", TINY, ids=lambda experiment: experiment.name)
def test_the_claims_hold(experiment, tmp_path):
    result = run(experiment, tmp_path)
    assert [claim for claim in result["claims"] if not claim["holds"]] == []
    assert (tmp_path / experiment.name / result["figures"][0]).stat().st_size > 10_000


def test_a_support_that_is_not_found_within_the_layers_breaks_the_proposition(tmp_path):
    result = run(PUDLE_SUPPORT, tmp_path, replace(TINY[PUDLE_SUPPORT], n_unfold=10))
    assert not result["claims"][0]["holds"]
    assert result["values"]["fraction_selected"] < 0.5


def test_the_first_layer_from_which_on_all_hold():
    holds = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=bool)
    assert support._first_for_good(holds).tolist() == [3, 2, 4]
    assert support._first_for_good(np.ones((3, 1), dtype=bool)).tolist() == [1]


def broken(folder):
    """Return the claims of the constants that do not hold, in one string."""
    return "\n".join(claim["claim"] for claim in run(PUDLE_CONSTANTS, folder)["claims"] if not claim["holds"])


def test_layers_of_another_penalty_have_another_jacobian_and_another_limit(tmp_path, monkeypatch):
    real = constants.ISTA
    monkeypatch.setattr(constants, "ISTA", lambda penalty, step: real(constants.L1(0.25), step))
    assert "implicit function theorem" in broken(tmp_path)


def test_codes_that_are_not_the_lassos_break_the_lemmas_and_the_theorem(tmp_path, monkeypatch):
    real = constants.sparse_encode
    monkeypatch.setattr(constants, "sparse_encode", lambda *a, alpha, tol: real(*a, alpha=0.22, tol=tol))
    assert "Q^lasso-11" in broken(tmp_path)
    assert "ae-lasso's distance to g_hat" in broken(tmp_path)


def test_a_constant_that_is_half_too_small_breaks_its_bound(tmp_path, monkeypatch):
    """Q^21 has the norm ||delta|| ||delta D||: between the least and the largest singular value."""
    result = run(PUDLE_CONSTANTS, tmp_path)
    assert 0.2 < result["values"]["q21_over_bound_max"] <= 1
    assert result["values"]["ls_plateau_over_C_h"] > 0.02

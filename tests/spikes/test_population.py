"""The regression of a population is that of statsmodels, finds planted coupling, and is made in blocks."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from calepin.likelihoods import Binomial, Poisson
from calepin.penalties import L1, GroupL1
from calepin.spikes import (
    NegativeBinomial,
    bspline_basis,
    fit_population,
    population_design,
    raised_cosine_basis,
    select_population_alpha,
)

BASIS = raised_cosine_basis(10, 3)
N_UNITS, N_TRIALS, N_BINS = 4, 3, 800


def coupled(family="poisson", seed=0):
    """Return counts of units with history, in which unit 0 drives unit 1 and unit 2 inhibits unit 3."""
    rng = np.random.default_rng(seed)
    filters = np.zeros((N_UNITS, N_UNITS, 10))
    filters[np.arange(N_UNITS), np.arange(N_UNITS)] = -0.5 * BASIS[:, 0]
    filters[1, 0] = 0.8 * BASIS[:, 1]
    filters[3, 2] = -0.6 * BASIS[:, 2]
    counts = np.zeros((N_UNITS, N_TRIALS, N_BINS + 10), np.uint8)
    for n in range(10, N_BINS + 10):
        past = counts[:, :, n - 10 : n][:, :, ::-1]
        eta = -1.6 + np.einsum("ijl,jml->im", filters, past)
        if family == "binomial":
            counts[:, :, n] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
        elif family == "negative binomial":
            counts[:, :, n] = rng.poisson(np.exp(eta) * rng.gamma(1.5, 1 / 1.5, eta.shape))
        else:
            counts[:, :, n] = rng.poisson(np.exp(eta))
    return counts[:, :, 10:]


def dense_design(counts, basis, covariates=None):
    """Return the design of all rows as one matrix, by its definition."""
    n_units, n_trials, n_bins = counts.shape
    columns = [np.ones((n_trials, n_bins))]
    if covariates is not None:
        columns += [np.broadcast_to(c, (n_trials, n_bins)) for c in covariates.T]
    for unit in range(n_units):
        for function in basis.T:
            past = np.zeros((n_trials, n_bins))
            for lag, value in enumerate(function, start=1):
                past[:, lag:] += value * counts[unit, :, :-lag]
            columns.append(past)
    return np.stack([np.ravel(column) for column in columns], axis=1)


@pytest.mark.parametrize("family", ["poisson", "binomial", "negative binomial"])
def test_likelihood_and_weights_are_those_of_statsmodels(family):
    sm = pytest.importorskip("statsmodels.api")
    counts = coupled(family)
    wave = np.column_stack([np.sin(np.arange(N_BINS) / 30), np.cos(np.arange(N_BINS) / 50)])
    likelihood = {"poisson": Poisson(), "binomial": Binomial(), "negative binomial": NegativeBinomial(1.5)}[
        family
    ]
    peer_family = {
        "poisson": sm.families.Poisson(),
        "binomial": sm.families.Binomial(),
        "negative binomial": sm.families.NegativeBinomial(alpha=1 / 1.5),
    }[family]
    table = pytest.importorskip("pandas").DataFrame(wave, columns=["sine", "cosine"])
    fit = fit_population(counts, basis=BASIS, covariates=table, likelihood=likelihood, tol=1e-9)
    X = dense_design(counts, BASIS, wave)
    assert fit.names == ("sine", "cosine")
    assert fit.converged.all()
    for unit in range(N_UNITS):
        peer = sm.GLM(counts[unit].ravel().astype(float), X, family=peer_family).fit(tol=1e-12)
        assert fit.log_likelihood[unit] == pytest.approx(peer.llf, abs=1e-6)
        mine = [fit.baseline[unit], *fit.covariates[unit], *fit.coupling[unit].ravel()]
        np.testing.assert_allclose(mine, peer.params, atol=1e-3)


def test_a_ridge_is_where_its_gradient_vanishes():
    counts = coupled()
    fit = fit_population(counts, basis=BASIS, ridge=5.0, tol=1e-10)
    X = dense_design(counts, BASIS)
    for unit in range(N_UNITS):
        w = np.concatenate([[fit.baseline[unit]], fit.coupling[unit].ravel()])
        score = X.T @ (counts[unit].ravel() - np.exp(X @ w))
        np.testing.assert_allclose(score, 5.0 * np.concatenate([[0], w[1:]]), atol=2e-3)


@pytest.mark.parametrize("penalty", [L1(20.0), GroupL1(30.0, 3)])
def test_penalised_weights_satisfy_the_optimality_conditions(penalty):
    counts = coupled()
    fit = fit_population(counts, basis=BASIS, penalty=penalty, tol=1e-10)
    X = dense_design(counts, BASIS)
    assert 0 < np.count_nonzero(fit.coupling) < fit.coupling.size
    assert fit.converged.all()
    for unit in range(N_UNITS):
        w = fit.coupling[unit]
        score = X.T @ (counts[unit].ravel() - np.exp(fit.baseline[unit] + X[:, 1:] @ w.ravel()))
        assert abs(score[0]) < 1e-2
        score = score[1:].reshape(w.shape)
        if isinstance(penalty, L1):
            np.testing.assert_allclose(score[w != 0], 20.0 * np.sign(w[w != 0]), atol=1e-2)
            assert np.abs(score[w == 0]).max(initial=0) <= 20.01
        else:
            size = np.linalg.norm(w, axis=1)
            on = size > 0
            np.testing.assert_allclose(score[on], 30.0 * w[on] / size[on, None], atol=3e-2)
            assert np.linalg.norm(score[~on], axis=1).max(initial=0) <= 30.01


def test_planted_coupling_is_kept_by_cross_validated_groups():
    fit = select_population_alpha(coupled(), [1.0, 10.0, 1000.0], basis=BASIS, groups=True, tol=1e-3)
    assert fit.alpha in (1.0, 10.0)
    effect = np.abs(fit.filters).sum(2)
    others = effect - np.diag(np.diag(effect))
    strongest = np.argsort(-others, axis=None)[:2]
    assert {divmod(int(i), N_UNITS) for i in strongest} == {(1, 0), (3, 2)}
    assert fit.filters[1, 0].max() > 0.3 > 0 > fit.filters[3, 2].sum()


def test_a_large_design_is_made_in_blocks_that_give_the_same_fit(monkeypatch, tmp_path):
    counts = coupled()
    whole = fit_population(counts, basis=BASIS)
    monkeypatch.setattr(population_design, "_KEPT_BYTES", 0)
    monkeypatch.setattr(population_design, "_BLOCK_BYTES", 8 * 13 * 100)
    np.save(tmp_path / "counts.npy", counts)
    blocked = fit_population(np.load(tmp_path / "counts.npy", mmap_mode="r"), basis=BASIS)
    np.testing.assert_allclose(blocked.log_likelihood, whole.log_likelihood, atol=1e-5)
    np.testing.assert_allclose(blocked.coupling, whole.coupling, atol=1e-2)
    np.testing.assert_allclose(blocked.score(counts), blocked.log_likelihood, rtol=1e-9)


def test_the_predictor_is_the_model():
    counts = coupled()
    fit = fit_population(counts, basis=BASIS)
    expected = (
        dense_design(counts, BASIS) @ np.column_stack([fit.baseline, fit.coupling.reshape(N_UNITS, -1)]).T
    )
    np.testing.assert_allclose(fit.predictor(counts), expected.T.reshape(counts.shape), atol=1e-10)
    np.testing.assert_allclose(fit.filters[1, 0], BASIS @ fit.coupling[1, 0])
    with pytest.raises(ValueError, match="counts: expected 4 units, got 3"):
        fit.predictor(counts[:3])
    with pytest.raises(ValueError, match="covariates: expected 0, got 1"):
        fit.predictor(counts, np.ones((800, 1)))


def test_the_shape_of_the_negative_binomial_is_found():
    rng = np.random.default_rng(0)
    counts = rng.poisson(2 * rng.gamma(1.5, 1 / 1.5, (3, 1, 3000)))
    fit = fit_population(counts, likelihood=NegativeBinomial())
    assert fit.shapes is not None
    np.testing.assert_allclose(fit.shapes, 1.5, rtol=0.15)
    assert (fit.log_likelihood > fit_population(counts).log_likelihood + 100).all()


def test_bases_are_smooth_and_complete():
    cosines = raised_cosine_basis(20, 5)
    assert cosines.shape == (20, 5)
    assert (cosines.argmax(0)[[0, -1]] == [0, 19]).all()
    np.testing.assert_allclose(bspline_basis(20, 6).sum(1), 1)
    with pytest.raises(ValueError, match="n_basis: expected an integer from 2 to 5, got 6"):
        raised_cosine_basis(5, 6)


def test_bad_input_is_one_line():
    counts = coupled()
    silent = counts.copy()
    silent[2] = 0
    ones = np.ones((800, 2))
    for given, settings, message in [
        (silent, {}, "counts: expected spikes of every unit, got none of 2"),
        (counts[:, :1, :30], {"basis": BASIS}, "counts: expected at least as many spikes as parameters"),
        (counts - 0.5, {}, "counts: expected whole numbers of at least 0, got others in unit 0"),
        (2 * counts, {"likelihood": Binomial()}, "counts: expected at most one spike in a bin for Binomial"),
        (counts, {"covariates": np.ones((77, 1))}, r"covariates: expected shape \(n_bins=800, p\)"),
        (counts, {"covariates": np.ones((800, 1))}, "covariates: expected linearly independent columns"),
        (counts, {"penalty": L1(1.0)}, "penalty: expected a basis"),
        (counts, {"basis": BASIS, "penalty": GroupL1(1.0, 2)}, "penalty: expected groups of the 3 functions"),
        (counts, {"names": ["a"], "covariates": ones}, "names: expected one for each"),
    ]:
        with pytest.raises(ValueError, match=message) as raised:
            fit_population(given, **settings)
        assert "\n" not in str(raised.value)
    with pytest.warns(ConvergenceWarning, match="max_iter: 4 units have not converged in 1 iterations"):
        fit_population(counts, basis=BASIS, max_iter=1)
    with pytest.raises(ValueError, match="counts: expected at least 4 trials, one a fold, got 3"):
        select_population_alpha(counts, [1.0], basis=BASIS, n_folds=4)


def test_infinite_counts_have_no_likelihood():
    counts = np.random.default_rng(0).poisson(0.5, (2, 200)).astype(float)
    fitted = fit_population(counts)
    counts[0, 3] = np.inf
    with pytest.raises(
        ValueError, match="counts: expected whole numbers of at least 0, got others in unit 0"
    ):
        fitted.score(counts)

"""Signals as they are recorded, in volts, with offsets, drifts, gaps and artefacts: atoms are found."""

import warnings

import numpy as np
import pytest
import zarr
from sklearn.exceptions import ConvergenceWarning

from calepin import ConvolutionalDictionaryLearner
from calepin.datasets import simulate_convolutional
from calepin.learning import ConvolutionalOnline
from calepin.metrics import filter_error
from calepin.penalties import L1, ElasticNet, GroupL1

N, LENGTH, KERNEL = 20, 500, 36


def planted(seed, **settings):
    common = {"n_events": 5, "amplitude": (5.0, 5.0), "likelihood": "gaussian", "noise": 0.3}
    shape = {"n_components": 2, "kernel_size": (KERNEL,)}
    return simulate_convolutional(N, (LENGTH,), **(common | shape | settings), random_state=seed)


def with_artefacts(X):
    X = X.copy()
    X[3, 0, 100:110] += 500
    X[7, 0, 300:310] -= 500
    return X


def with_gaps(X, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < 0.1, np.nan, X)


RECORDED = {
    "plain": lambda X: X,
    "offset": lambda X: X + 5,
    "volts": lambda X: X * 1e-6,
    "artefacts": with_artefacts,
    "gaps": with_gaps,
    "drift": lambda X: X + np.linspace(0, 8, LENGTH),
}


def learner(seed=0, **settings):
    return ConvolutionalDictionaryLearner(2, KERNEL, random_state=seed, **settings)


def error_of(fitted, truth):
    return filter_error(fitted.components_, truth, max_shift=None).max()


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("seed", [0, 7])
def test_planted_atoms_are_found_in(name, seed):
    data = planted(seed)
    assert error_of(learner(seed).fit(RECORDED[name](data.X)), data.atoms) < 0.2


def test_the_units_of_signals_do_not_matter():
    X = planted(1).X
    mine, other = learner(max_iter=3).fit(X), learner(max_iter=3).fit(X * 2.0**-20)
    assert other.alpha_ == mine.alpha_ * 2.0**-20
    np.testing.assert_allclose(other.components_, mine.components_, atol=1e-9)
    half = learner(alpha_scaled=0.5).fit(X)
    assert half.alpha_ > mine.alpha_
    assert (half.transform(X) != 0).sum() < (mine.transform(X) != 0).sum()


def test_without_robust_learning_artefacts_spoil_the_atoms():
    data = planted(0)
    X = with_artefacts(data.X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert error_of(learner(robust=None, n_init=1).fit(X), data.atoms) > 0.4
    assert learner().fit(X).history_[-1]["n_trimmed"] > 0
    assert learner().fit(data.X).history_[-1]["n_trimmed"] == 0


def test_anomalies_are_the_artefacts():
    data = planted(2)
    fitted = learner().fit(data.X)
    assert not fitted.anomalies(data.X).any()
    found = fitted.anomalies(with_artefacts(data.X))
    assert found.shape == (N, LENGTH)
    assert set(np.flatnonzero(found.any(1))) == {3, 7}
    assert found[3, 100:110].all()
    assert not found[3, 110 + 4 * KERNEL :].any()  # codes that try to explain it surround it
    with pytest.raises(ValueError, match="anomalies: expected a learner with robust"):
        learner(robust=None, max_iter=1).fit(data.X).anomalies(data.X)


def test_a_gap_is_not_zero():
    data = planted(3)
    fitted = learner(detrend=None).fit(data.X)
    gap = data.X.copy()
    gap[:, :, 200:212] = 1e3
    mask = gap != 1e3
    codes = fitted.transform(gap, mask=mask)
    np.testing.assert_array_equal(codes, fitted.transform(np.where(mask, gap, np.nan)))
    # in a gap shorter than a filter the codes say what was there, zeros say that nothing was
    filled = fitted.inverse_transform(codes)[:, :, 200:212]
    of_zeros = fitted.inverse_transform(fitted.transform(np.where(mask, gap, 0)))[:, :, 200:212]
    truth = data.eta[:, :, 200:212]
    assert np.square(filled - truth).mean() < 0.9 * np.square(of_zeros - truth).mean()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("coder", ["exact", "fista", "ista"])
def test_every_coder_of_real_numbers_takes_gaps(coder):
    data = planted(4)
    X = with_gaps(data.X)
    settings = {"coder": coder, "alpha": 1.0, "n_unfold": 30} if coder != "exact" else {"coder": coder}
    fitted = learner(init=data.atoms, max_iter=1, detrend=None, **settings).fit(X)
    filled, of_zeros = (fitted.inverse_transform(fitted.transform(x)) for x in (X, np.nan_to_num(X)))
    gaps = np.isnan(X)
    assert np.square(filled - data.eta)[gaps].mean() < 0.7 * np.square(of_zeros - data.eta)[gaps].mean()


def test_counts_with_gaps_are_learned_from_what_was_counted():
    data = planted(5, likelihood="binomial", trials=25, offset=-1.0)
    gaps = with_gaps(data.X)
    settings = {"likelihood": "binomial", "trials": 25, "nonnegative": True, "alpha": 10.0}
    fitted = learner(**settings).fit(gaps)
    # the baseline of a signal with gaps is not that of one with zeros
    offsets = fitted.encode(gaps).offset
    np.testing.assert_allclose(offsets, fitted.encode(data.X).offset, atol=0.25)
    assert np.mean(fitted.encode(np.nan_to_num(gaps)).offset - offsets) < -0.05


def test_baselines_are_part_of_the_offset():
    data = planted(6)
    drift = np.linspace(-3, 4, LENGTH)
    fitted = learner().fit(data.X + drift)
    codes, offset = fitted.encode(data.X + drift)
    assert offset.shape == data.X.shape
    np.testing.assert_allclose(offset, np.broadcast_to(drift, data.X.shape), atol=0.5)
    whole = fitted.inverse_transform(codes, offset=offset)
    np.testing.assert_allclose(whole - offset, fitted.inverse_transform(codes), atol=1e-9)
    assert not fitted.encode(data.X).offset.any()  # where there is none, none is removed
    known = fitted.encode(data.X + drift, offset=np.broadcast_to(drift, data.X.shape))
    np.testing.assert_array_equal(known.offset, np.broadcast_to(drift, data.X.shape))


def test_slow_drifts_follow_a_broken_line():
    data = planted(7)
    drift = 3 * np.sin(np.linspace(0, 2 * np.pi, LENGTH))
    errors = {
        kind: error_of(learner(7, detrend=kind).fit(data.X + drift), data.atoms) for kind in (100, None)
    }
    assert errors[100] < 0.25 < errors[None]


def test_restarts_end_no_higher_and_a_resumed_run_is_the_same(tmp_path):
    X = planted(8, n_components=4).X
    settings = {"random_state": 3, "tol": 0, "max_iter": 8}
    ends = [
        ConvolutionalDictionaryLearner(4, KERNEL, n_init=n, **settings).fit(X).history_[-1]["objective"]
        for n in (1, 6)
    ]
    assert ends[1] <= ends[0]
    whole = ConvolutionalDictionaryLearner(4, KERNEL, n_init=2, **settings).fit(with_artefacts(X))
    kept = {"checkpoint": tmp_path / "run", "resume": True}
    part = ConvolutionalDictionaryLearner(4, KERNEL, n_init=2, **(settings | {"max_iter": 6}), **kept)
    part.fit(with_artefacts(X))
    resumed = ConvolutionalDictionaryLearner(4, KERNEL, n_init=2, **settings, **kept).fit(with_artefacts(X))
    np.testing.assert_array_equal(resumed.components_, whole.components_)
    assert resumed.alpha_ == whole.alpha_


def test_saved_learners_keep_the_weight(tmp_path):
    X = planted(9).X
    fitted = learner(max_iter=2).fit(X)
    fitted.save(tmp_path / "filters")
    loaded = ConvolutionalDictionaryLearner.load(tmp_path / "filters")
    assert loaded.alpha_ == fitted.alpha_
    np.testing.assert_array_equal(loaded.transform(X * 2), fitted.transform(X * 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": "best"}, "alpha: expected"),
        (
            {"alpha_scaled": 1.5},
            "alpha_scaled: expected a finite number above 0 and below 1 or None, got 1.5",
        ),
        ({"alpha": 1.0, "alpha_scaled": 0.1}, "alpha: expected the default 'auto' with alpha_scaled = 0.1"),
        ({"detrend": "spline"}, "detrend: expected"),
        ({"detrend": 0}, "detrend: expected"),
        ({"detrend": "linear", "offset": "estimate"}, "detrend: expected the default 'auto' with offset"),
        (
            {"detrend": "linear", "likelihood": "poisson"},
            "detrend: expected the default 'auto' with likelihood",
        ),
        ({"robust": -1}, "robust: expected a finite number above 0 or None"),
        ({"n_init": 0}, "n_init: expected"),
        (
            {"init": np.ones((2, 1, KERNEL)), "n_init": 3},
            "n_init: expected the default 'auto' with given filters",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        learner(**settings).fit(np.abs(planted(0).X.round()))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((N, 1, LENGTH)), "mask: expected a boolean array"),
        (np.ones((N, 1, LENGTH - 1), bool), "mask: expected a boolean array of the signal's shape"),
        (np.ones((N - 1, 1, LENGTH), bool), "mask: expected one for each of the 20 signals, got 19"),
        (True, "mask: expected one for each of the 20 signals, got True"),
        (
            np.arange(N)[:, None, None] != np.full((N, 1, LENGTH), 4),
            "every signal, signal 4 has none; remove",
        ),
    ],
)
def test_masks_that_cannot_be_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        learner().fit(planted(0).X, mask=mask)


def test_a_channel_without_any_entry_is_named():
    X = np.repeat(planted(0).X, 3, axis=1)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="X: expected observed entries in every channel, channel 1 has none"):
        learner().fit(X)
    X[0, 1] = X[0, 0]  # a channel may be missing from some of the signals
    assert np.isfinite(learner(max_iter=1, n_init=1).fit(X).components_).all()


def test_a_run_that_is_interrupted_while_starts_are_compared_goes_on_bit_for_bit(tmp_path, monkeypatch):
    X = planted(1).X[:4]
    settings = {"random_state": 0, "max_iter": 6, "tol": 0, "n_init": 4, "batch_size": 2}
    whole = ConvolutionalDictionaryLearner(2, KERNEL, **settings).fit(X)
    kept = {"checkpoint": tmp_path / "run", "resume": True, "checkpoint_seconds": 0}
    step = ConvolutionalOnline.step
    for n_steps in (5, 9, 6):
        done = iter(range(n_steps))

        def interrupted(self, state, batch, done=done):
            if next(done, None) is None:
                raise KeyboardInterrupt
            return step(self, state, batch)

        monkeypatch.setattr(ConvolutionalOnline, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ConvolutionalDictionaryLearner(2, KERNEL, **settings, **kept).fit(X)
        assert (tmp_path / "run.start-0").exists()
    monkeypatch.setattr(ConvolutionalOnline, "step", step)
    resumed = ConvolutionalDictionaryLearner(2, KERNEL, **settings, **kept).fit(X)
    np.testing.assert_array_equal(resumed.components_, whole.components_)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_files_of_starts_replace_no_other_file(tmp_path):
    X = planted(1).X[:4]
    (tmp_path / "run.start-0").write_text("notes")
    settings = {"max_iter": 1, "tol": 0, "checkpoint": tmp_path / "run"}
    with pytest.raises(ValueError, match="checkpoint: expected a new file or a checkpoint"):
        learner(**settings).fit(X)
    learner(n_init=1, **settings).fit(X)
    assert (tmp_path / "run.start-0").read_text() == "notes"


def test_several_starts_of_a_stream_are_refused():
    X = planted(1).X[:4]
    with pytest.raises(
        ValueError, match="n_init: expected 'auto' or 1 if X is an iterable of batches, got 3"
    ):
        learner(n_init=3, max_iter=1).fit(lambda: iter([X]))


def test_learning_from_what_is_left_of_many_artefacts_says_so():
    data = planted(0)
    X = data.X.copy()
    X[:4, 0, 100:110] += 500
    X[:4, 0, 400:410] -= 500
    with pytest.warns(UserWarning, match="of the signals were left out of learning as artefacts"):
        learner(n_init=1, max_iter=3).fit(X)


def test_a_pursuit_of_real_numbers_learns_from_all_windows():
    data = planted(2)
    fitted = learner(2, coder="bcomp", n_nonzero=10, max_iter=5).fit(data.X)
    assert error_of(fitted, data.atoms) < 0.2
    with pytest.raises(ValueError, match="another coder than 'bcomp'"):
        fitted.anomalies(data.X)


def test_a_pursuit_finds_planted_atoms_in_signals_with_gaps():
    data = planted(2)
    gaps = with_gaps(data.X)
    fitted = learner(2, coder="bcomp", n_nonzero=10, max_iter=5).fit(gaps)
    assert error_of(fitted, data.atoms) < 0.2
    known = learner(coder="bcomp", n_nonzero=10, init=data.atoms, max_iter=1, detrend=None).fit(gaps)
    filled, of_zeros = (known.inverse_transform(known.transform(x)) for x in (gaps, np.nan_to_num(gaps)))
    missing = np.isnan(gaps)
    assert np.square(filled - data.eta)[missing].mean() < 0.6 * np.square(of_zeros - data.eta)[missing].mean()


def test_signals_of_unequal_length_have_masks_of_unequal_length():
    X = [x[:, : 300 + 10 * i] for i, x in enumerate(planted(3).X)]
    masks = [np.random.default_rng(i).random(x.shape) > 0.1 for i, x in enumerate(X)]
    settings = {"max_iter": 2, "n_init": 1}
    by_mask = learner(**settings).fit(X, mask=masks)
    by_nan = learner(**settings).fit([np.where(m, x, np.nan) for x, m in zip(X, masks, strict=True)])
    np.testing.assert_array_equal(by_mask.components_, by_nan.components_)
    with pytest.raises(ValueError, match="mask: expected one for each of the 20 signals, got 3"):
        by_mask.transform(X, mask=masks[:3])


def test_infinity_is_named():
    X = planted(0).X
    X[2, 0, 5] = np.inf
    with pytest.raises(ValueError, match=r"X: expected finite values, got inf at index \(2, 0, 5\)"):
        learner().fit(X)


def test_whole_numbers_of_a_converter_give_no_warning():
    data = planted(1)
    counts = (100 * data.X).round().astype(np.int16)
    assert error_of(learner(1).fit(counts), data.atoms) < 0.2


def test_signals_in_zarr_and_in_a_memory_map_give_the_atoms_of_those_in_memory(tmp_path):
    X = planted(2).X.astype(np.float32)
    settings = {"max_iter": 2, "n_init": 1, "batch_size": 8}
    expected = learner(**settings).fit(X).components_
    zarr.create_array(tmp_path / "X.zarr", data=X, chunks=(3, 1, 100))
    np.save(tmp_path / "X.npy", X)
    for stored in (zarr.open(tmp_path / "X.zarr", mode="r"), np.load(tmp_path / "X.npy", mmap_mode="r")):
        np.testing.assert_array_equal(learner(**settings).fit(stored).components_, expected)


def test_artefacts_in_two_fifths_of_the_signals_leave_the_weight_as_it_is():
    data = planted(4)
    X = data.X.copy()
    X[:8, 0, 100:104] += 500
    with pytest.warns(UserWarning, match="of the signals were left out"):
        fitted = learner(init=data.atoms, max_iter=4).fit(X)
    clean = learner(init=data.atoms, max_iter=1).fit(data.X)
    assert 0.8 < fitted.alpha_ / clean.alpha_ < 1.25
    assert error_of(fitted, data.atoms) < 0.2


def test_rare_events_are_not_taken_for_artefacts():
    data = planted(5)
    noise = np.random.default_rng(0).normal(scale=0.01, size=data.X.shape)
    X = np.where(np.arange(N)[:, None, None] < 8, data.X, noise)  # most signals have no event
    rare, usual = (learner(max_iter=1, n_init=1).fit(signals) for signals in (X, data.X))
    assert rare.alpha_ > 0.5 * usual.alpha_


def test_a_fit_that_has_not_converged_says_so():
    X = planted(0).X
    with pytest.warns(ConvergenceWarning, match="not converged after max_iter = 6 passes: the objective"):
        assert not learner(n_init=1, tol=1e-9, max_iter=6).fit(X).converged_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner(n_init=1, max_iter=5).fit(X)  # too few to judge, as many as were asked for
        learner(n_init=1, tol=0, max_iter=6).fit(X)
        assert learner().fit(X).converged_


def test_an_elastic_net_is_coded_exactly_and_learned_fast():
    data = planted(2)
    penalty = ElasticNet(1.0, 0.5)
    fitted = learner(2, penalty=penalty).fit(with_artefacts(data.X))
    assert fitted.history_[-1]["n_trimmed"] > 0
    assert error_of(fitted, data.atoms) < 0.2
    exact = fitted.transform(data.X)
    by_steps = fitted.set_params(n_unfold=400).transform(data.X)
    np.testing.assert_allclose(exact, by_steps, atol=0.1)
    plain = fitted.set_params(penalty=ElasticNet(1.0, 0.0)).transform(data.X)
    assert np.abs(exact).max() < 0.8 * np.abs(plain).max()  # the ridge shrinks


@pytest.mark.filterwarnings("ignore:.*far from the minimiser")
def test_groups_of_atoms_are_learned_and_coded_together():
    data = planted(3)
    few = {"n_init": 1, "max_iter": 4, "coder": "fista", "n_unfold": 60}
    X = with_artefacts(data.X)
    fitted = learner(3, penalty=GroupL1(1.0, 2), **few).fit(X)
    assert fitted.history_[-1]["n_trimmed"] > 0
    codes = fitted.transform(data.X)
    assert codes.any()
    np.testing.assert_array_equal(codes[:, 0] != 0, codes[:, 1] != 0)  # at each place both or none
    assert (codes != 0).mean() < 0.5
    single, alone = (learner(3, penalty=penalty, **few).fit(X) for penalty in (GroupL1(1.0, 1), L1(1.0)))
    np.testing.assert_allclose(single.components_, alone.components_, atol=1e-9)


def test_too_few_events_to_tell_artefacts_from_are_told():
    data = planted(1)
    fitted = learner(init=data.atoms, max_iter=1).fit(data.X)
    with pytest.warns(UserWarning, match="X: nothing is marked, because events lie in fewer than 20 windows"):
        assert not fitted.anomalies(data.X[:1]).any()

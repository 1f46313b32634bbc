"""What learners take as X: arrays of any kind, sparse matrices, files, and batches of any iterable."""

import h5py
import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils.data import DataLoader, TensorDataset

from calepin import (
    ConvolutionalDictionaryLearner,
    DictionaryLearner,
    GenerativeDictionaryLearner,
    UnfoldedDictionaryLearner,
)
from calepin.generators import PolynomialSine

N, M = 120, 12


class Stored:
    """An array that is only read by slices, as one of zarr."""

    def __init__(self, X):
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self._X[rows]


def learner(name, **settings):
    common = {"max_iter": 2, "tol": 0, "random_state": 0} | settings
    if name == "dictionary":
        return DictionaryLearner(8, alpha=0.2, **common)
    if name == "unfolded":
        return UnfoldedDictionaryLearner(8, alpha=0.2, n_unfold=5, **common)
    return GenerativeDictionaryLearner(PolynomialSine(2), n_starts=1, **common)


LEARNERS = pytest.mark.parametrize("name", ["dictionary", "unfolded", "generative"])


@pytest.fixture
def X(rng):
    found = rng.standard_normal((N, M))
    found[rng.random((N, M)) < 0.3] = 0
    return found


def uneven(X):
    return [X[:70], X[70:73], X[73:]]


def tensors(X):
    return torch.from_numpy(X)


BATCHES = {
    "list": uneven,
    "tuple": lambda X: tuple(uneven(X)),
    "tensors": lambda X: uneven(tensors(X)),
    "loader of pairs of one": lambda X: DataLoader(TensorDataset(tensors(X)), batch_size=50),
    "loader of tensors": lambda X: DataLoader(tensors(X), batch_size=50),
    "list of a loader": lambda X: list(DataLoader(TensorDataset(tensors(X)), batch_size=50)),
    "sparse blocks": lambda X: [sparse.csr_array(part) for part in uneven(X)],
    "generator function": lambda X: lambda: (part for part in uneven(X)),
    "iterator": lambda X: iter(uneven(X)),
}
ROWS = {
    "dataset": lambda X: TensorDataset(tensors(X)),
    "requires grad": lambda X: tensors(X).requires_grad_(),
    "csr": sparse.csr_array,
    "csc matrix": sparse.csc_matrix,
    "stored": Stored,
    "lists of numbers": lambda X: X.tolist(),
    "list of rows": list,
    "list of tensors": lambda X: list(tensors(X)),
}


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")
@pytest.mark.parametrize("kind", BATCHES)
@LEARNERS
def test_batches_of_any_iterable_are_learned_from_coded_and_scored(name, kind, X):
    make = BATCHES[kind]
    fitted = learner(name, max_iter=1).fit(make(X))
    assert fitted.n_steps_ == 3
    np.testing.assert_allclose(fitted.transform(make(X)), fitted.transform(X), atol=1e-10)
    assert fitted.score(make(X)) == pytest.approx(fitted.score(X))
    fitted.partial_fit(make(X)).partial_fit(make(X))
    assert fitted.n_steps_ == 9
    if kind != "iterator":
        assert learner(name).fit(make(X)).n_steps_ == 6


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")
@pytest.mark.parametrize("kind", ROWS)
@LEARNERS
def test_rows_of_any_kind_are_the_array_that_they_stand_for(name, kind, X):
    given = ROWS[kind](X)
    fitted, by_array = (learner(name, max_iter=1).fit(data) for data in (given, X))
    np.testing.assert_array_equal(fitted.components_, by_array.components_)
    np.testing.assert_allclose(fitted.transform(given), by_array.transform(X), atol=1e-12)
    assert fitted.score(given) == pytest.approx(by_array.score(X))
    fitted.partial_fit(given)


def test_sparse_rows_are_learned_in_the_same_batches_as_dense_ones(X):
    fits = [learner("dictionary", batch_size=32).fit(data) for data in (X, sparse.csr_array(X))]
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)


@LEARNERS
def test_datasets_of_files_are_read_in_blocks(name, X, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", data=X.astype(np.float32), chunks=(16, M), compression="gzip")
        by_file = learner(name, batch_size=32).fit(data)
        by_slices = learner(name, batch_size=32).fit(Stored(X.astype(np.float32)))
        np.testing.assert_array_equal(by_file.components_, by_slices.components_)
        assert by_file.components_.dtype == np.float32
        assert by_file.n_steps_ == 8
        np.testing.assert_allclose(by_file.transform(data), by_file.transform(data[:]), atol=1e-5)
        assert by_file.score(data) == pytest.approx(by_file.score(data[:]), rel=1e-5)


def test_a_resumed_fit_from_a_file_equals_an_uninterrupted_one(X, tmp_path):
    settings = {"batch_size": 32, "max_iter": 3, "checkpoint": tmp_path / "c"}
    whole = learner("dictionary", batch_size=32, max_iter=3).fit(Stored(X))
    learner("dictionary", **settings).fit(Stored(X), callbacks=[lambda state: state.n_steps == 6])
    resumed = learner("dictionary", **settings, resume=True).fit(Stored(X))
    np.testing.assert_array_equal(resumed.components_, whole.components_)


def test_missing_entries_of_stored_and_sparse_rows_are_those_of_the_array(X):
    observed = np.random.default_rng(1).random(X.shape) > 0.1
    holes = np.where(observed, X, np.nan)
    settings = {"max_iter": 1, "alpha": 0.2, "random_state": 0}
    expected = DictionaryLearner(8, missing="allow", **settings).fit(holes)
    for given in (Stored(holes), sparse.csr_array(holes), np.ma.masked_array(X, ~observed)):
        fitted = DictionaryLearner(8, missing="allow", **settings).fit(given)
        np.testing.assert_allclose(fitted.components_, expected.components_, atol=1e-10)
        np.testing.assert_allclose(fitted.transform(given), expected.transform(holes), atol=1e-10)
    masked = DictionaryLearner(8, **settings).fit(Stored(X), mask=observed)
    np.testing.assert_allclose(masked.components_, expected.components_, atol=1e-10)
    np.testing.assert_allclose(
        masked.transform(Stored(X), mask=observed), expected.transform(holes), atol=1e-10
    )
    with pytest.raises(ValueError, match="missing='allow' treats NaN as missing"):
        DictionaryLearner(8, **settings).fit(Stored(holes))
    with pytest.raises(ValueError, match="X: expected no masked entries"):
        UnfoldedDictionaryLearner(8).fit(np.ma.masked_array(X, ~observed))


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float64, np.float64),
        (torch.float32, np.float32),
        (torch.bfloat16, np.float32),
        (torch.float16, np.float32),
        (torch.int64, np.float64),
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.uint8, np.float64),
    ],
)
@LEARNERS
def test_atoms_codes_and_reconstructions_have_the_dtype_of_the_samples(name, given, expected, X):
    positive = np.abs(X) * 10
    data = torch.from_numpy(positive).to(given) if isinstance(given, torch.dtype) else positive.astype(given)
    for source in (data, [data[:60], data[60:]]):
        fitted = learner(name, max_iter=1).fit(source)
        assert fitted.components_.dtype == expected
        codes = fitted.transform(source)
        assert codes.dtype == expected
        assert fitted.inverse_transform(codes).dtype == expected


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")
@LEARNERS
def test_later_samples_are_learned_from_in_the_dtype_of_the_first(name, X):
    single = X.astype(np.float32)
    for first, then in ((X, single), (single, X), (single, [X[:9], X[9:]]), (single, Stored(X))):
        fitted = learner(name, max_iter=1).fit(first)
        assert fitted.partial_fit(then).components_.dtype == first.dtype


@LEARNERS
def test_an_iterable_without_a_batch_is_refused(name, X):
    fitted = learner(name, max_iter=1).fit(X)
    for call in (fitted.transform, fitted.score, fitted.partial_fit, learner(name, max_iter=1).fit):
        with pytest.raises(
            ValueError, match="without any batch, .*; an iterator gives its batches only once"
        ):
            call(iter([]))


def test_a_network_of_another_dtype_is_not_changed(X):
    generator = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh())
    fitted = GenerativeDictionaryLearner(generator, random_state=0).fit(X)
    assert fitted.latent_dim_ == 2
    assert fitted.components_.dtype == np.float64
    assert generator[0].weight.dtype == torch.float32
    single = GenerativeDictionaryLearner(generator, random_state=0).fit(X.astype(np.float32))
    np.testing.assert_allclose(single.components_, fitted.components_, rtol=0.05, atol=0.05)


def test_an_iterator_is_refused_for_several_passes_before_it_is_read(X):
    batches = iter(uneven(X))
    with pytest.raises(ValueError, match="gives its batches only once: pass max_iter=1, or an iterable"):
        learner("dictionary").fit(batches)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X: [X[:9], X[:9, :5]], r"batches of samples of shape \(12,\), as in the first, got \(5,\)"),
        (lambda X: [X[:9], X[0]], r"batches \(n_samples, n_features\), got shape \(12,\)"),
        (lambda X: TensorDataset(tensors(X), tensors(X)), "TensorDataset of one tensor, got 2; leave labels"),
        (
            lambda X: DataLoader(TensorDataset(tensors(X), tensors(X))),
            "one array, got 2 in one; leave labels",
        ),
        (lambda X: torch.utils.data.Subset(TensorDataset(tensors(X)), [0]), "DataLoader"),
        (lambda X: ({"x": X} for _ in range(2)), "real numbers, got object"),
        (lambda X: [X[:9], X[:9] * 1j], "real numbers, got complex128"),
        (
            lambda X: [X[:9], np.full((9, M), np.inf)],
            "X: expected finite values, got a batch with NaN or inf",
        ),
        (lambda X: Stored(X * 1j), "Complex data not supported"),
        (lambda X: Stored(X[0]), "2D array"),
        (lambda X: Stored(X[:0]), "0 sample"),
        (lambda X: [np.ma.masked_greater(X, 1)], "got a batch with NaN"),
        (lambda X: X * 1j, "^X: Complex data not supported$"),
        (lambda X: X[0], "^X: Expected 2D array, got 1D array instead; Reshape your data.*$"),
        (lambda X: DictionaryLearner, "^X: expected samples .* or an iterable of batches, got type$"),
        (lambda X: None, "^X: expected samples .* or an iterable of batches, got NoneType$"),
        (lambda X: "X.npy", "^X: expected samples .* or an iterable of batches, got str$"),
        (lambda X: {"X": X}, "^X: expected samples .* or an iterable of batches, got dict$"),
    ],
)
def test_what_is_no_batch_is_refused_by_name(make, message, X):
    with pytest.raises((ValueError, TypeError), match=message):
        learner("dictionary", max_iter=1).fit(make(X))


def test_initial_atoms_tell_their_number(X, rng):
    start = rng.standard_normal((5, M))
    for make in (DictionaryLearner, UnfoldedDictionaryLearner):
        assert make(init=start, max_iter=1).fit(X).components_.shape == (5, M)
        assert make(init=torch.from_numpy(start), max_iter=1).fit(X).components_.shape == (5, M)
        with pytest.raises(ValueError, match=r"init: expected shape .* = \(6, 12\), got \(5, 12\)"):
            make(6, init=start).fit(X)
        for bad in (None, 3, start[0]):
            with pytest.raises(ValueError, match="^init: expected"):
                make(init=bad).fit(X)


def test_codes_may_be_sparse(X):
    for settings in ({"alpha": 0.2}, {"coder": "omp", "n_nonzero": 2}, {"coder": "iht", "alpha": 0.2}):
        fitted = DictionaryLearner(8, max_iter=1, random_state=0, **settings).fit(X)
        for given in (X, uneven(X), sparse.csr_array(X)):
            codes = fitted.transform(given, output="csr")
            assert isinstance(codes, sparse.csr_array)
            np.testing.assert_allclose(codes.toarray(), fitted.transform(X), atol=1e-10)
    with pytest.raises(ValueError, match="output: expected one of 'dense', 'csr', got 'coo'"):
        fitted.transform(X, output="coo")


def test_a_latent_dimension_is_asked_for_once(X):
    from calepin.learning import LeastSquares

    def generator(z):
        return torch.cat([z, z.sin(), z * z], 1)

    for given in ({"latent_dim": 2, "rule": LeastSquares(generator)}, {"rule": LeastSquares(generator, 2)}):
        fitted = GenerativeDictionaryLearner(generator, max_iter=1, random_state=0, **given).fit(X)
        assert fitted.transform(X).shape == (N, 2)
    with pytest.raises(ValueError, match="generator: expected it to return a Tensor, got ndarray"):
        GenerativeDictionaryLearner(lambda z: z.numpy(), latent_dim=2).fit(X)
    with pytest.raises(ValueError, match="latent_dim: expected 2, that of the rule, got 3"):
        GenerativeDictionaryLearner(generator, latent_dim=3, rule=LeastSquares(generator, 2)).fit(X)


SIGNALS = {
    "dataset": lambda X: TensorDataset(tensors(X)),
    "requires grad": lambda X: tensors(X).requires_grad_(),
    "list of tensors": lambda X: list(tensors(X)),
    "stored": Stored,
}


def filters(**settings):
    common = {"alpha": 0.2, "n_unfold": 200, "max_iter": 1, "random_state": 0, "batch_size": 20}
    return ConvolutionalDictionaryLearner(2, 5, **(common | settings))


@pytest.fixture
def signals(rng):
    return rng.standard_normal((40, 1, 30))


@pytest.mark.parametrize("kind", SIGNALS)
def test_signals_of_any_kind_are_the_array_that_they_stand_for(kind, signals):
    given = SIGNALS[kind](signals)
    fitted, by_array = filters().fit(given), filters().fit(signals)
    np.testing.assert_array_equal(fitted.components_, by_array.components_)
    np.testing.assert_array_equal(fitted.transform(given), by_array.transform(signals))
    assert fitted.score(given) == pytest.approx(by_array.score(signals))
    assert fitted.partial_fit(given).n_steps_ == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda X: DataLoader(TensorDataset(tensors(X)), batch_size=15),
        lambda X: iter([X[:15], X[15:18], X[18:]]),
        lambda X: lambda: iter([X[:15], X[15:18], X[18:]]),
    ],
)
def test_batches_of_signals_are_learned_from_coded_and_scored(make, signals):
    fitted = filters().fit(make(signals))
    assert fitted.n_steps_ == 3
    np.testing.assert_allclose(fitted.transform(make(signals)), fitted.transform(signals), atol=1e-10)
    assert fitted.score(make(signals)) == pytest.approx(fitted.score(signals))
    assert fitted.partial_fit(make(signals)).partial_fit(make(signals)).n_steps_ == 9
    assert (
        filters().fit(signals.astype(np.float32)).partial_fit(make(signals)).components_.dtype == np.float32
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of one signal
def test_batches_of_counts_are_checked_as_signals_are(rng):
    counts = rng.poisson(2.0, (40, 1, 30)).astype(np.float32)
    settings = {"likelihood": "poisson", "max_iter": 3, "tol": 0}
    fitted = filters(**settings).fit(DataLoader(torch.from_numpy(counts), batch_size=20))
    assert fitted.components_.dtype == np.float32
    assert fitted.encode(lambda: iter([counts])).offset.shape == (40, 1, 1)
    for bad, message in ((-counts, "^X: "), (counts * 0, "counts that vary"), (counts[:, 0], "X.:, None.")):
        with pytest.raises(ValueError, match=message):
            filters(**settings).fit(DataLoader(torch.from_numpy(bad), batch_size=20))
    with pytest.raises(ValueError, match="offset: expected None if X is an iterable"):
        filters(**settings).fit(lambda: iter([counts]), offset=np.zeros(40))
    with pytest.raises(ValueError, match="only once"):
        filters(**settings).fit(iter([counts]))


def test_initial_filters_tell_their_number_and_size(signals, rng):
    start = rng.standard_normal((3, 1, 7))
    fitted = ConvolutionalDictionaryLearner(init=start, max_iter=1, n_unfold=5).fit(signals)
    assert fitted.components_.shape == (3, 1, 7)
    for given in ({"n_components": 2}, {"kernel_size": 5}):
        with pytest.raises(ValueError, match=r"init: expected shape .* got \(3, 1, 7\)"):
            ConvolutionalDictionaryLearner(init=start, **given).fit(signals)
    with pytest.raises(ValueError, match=r"init: expected filters .* got shape \(7,\)"):
        ConvolutionalDictionaryLearner(init=start[0, 0]).fit(signals)


def test_masked_entries_are_missing_ones(signals):
    gaps = np.where(signals > 1, np.nan, signals)
    masked = filters(max_iter=2).fit(np.ma.masked_greater(signals, 1))
    of_nan = filters(max_iter=2).fit(gaps)
    np.testing.assert_array_equal(masked.components_, of_nan.components_)
    of_mask = filters(max_iter=2).fit(signals, mask=~np.isnan(gaps))
    np.testing.assert_array_equal(of_mask.components_, of_nan.components_)
    np.testing.assert_array_equal(of_nan.transform(gaps), of_nan.transform(signals, mask=~np.isnan(gaps)))

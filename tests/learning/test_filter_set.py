"""Sets of filters: projections land in the set, learning stays in it and finds what only the set can tell."""

import numpy as np
import pytest
import torch

from calepin import ConvolutionalDictionaryLearner, FileFormatError
from calepin.datasets import simulate_convolutional, smooth_filters
from calepin.learning import FilterSet
from calepin.learning.decays import waveforms
from calepin.metrics import filter_error

SETS = [
    FilterSet(rank=1),
    FilterSet(nonnegative=True),
    FilterSet(tapered=True),
    FilterSet(sizes=(4, 7, 10)),
    FilterSet(rank=1, nonnegative=True, tapered=True, sizes=(4, 7, 10)),
]


@pytest.mark.parametrize("filters", SETS)
@pytest.mark.parametrize("shape", [(3, 4, 10), (3, 2, 10, 10)])
def test_a_projection_is_in_the_set_and_projecting_again_changes_nothing(filters, shape, rng):
    h = torch.from_numpy(rng.standard_normal(shape))
    once = filters.project(h)
    torch.testing.assert_close(filters.project(once), once, atol=1e-12, rtol=0)
    if filters.rank:
        assert max(np.linalg.matrix_rank(f.flatten(1).numpy(), tol=1e-9) for f in once) == 1
    if filters.nonnegative:
        assert float(once.min()) >= 0
    for size, f in zip(filters.sizes or (), once, strict=bool(filters.sizes)):
        inside = f.abs().flatten(0, -2).amax(0) > 0
        assert int(inside.sum()) <= size - 2 * filters.tapered
        if not filters.nonnegative:
            assert inside.nonzero().flatten().tolist() == [(10 - size) // 2 + k for k in range(size)]
    if filters.tapered:
        assert not once[..., 0].any()
        assert not once[..., -1].any()


def test_a_projection_is_nearer_than_other_filters_of_the_set(rng):
    h = torch.from_numpy(rng.standard_normal((1, 4, 10)))
    for filters in SETS[:3]:
        nearest = float((filters.project(h) - h).norm())
        others = [filters.project(torch.from_numpy(rng.standard_normal((1, 4, 10)))) for _ in range(50)]
        assert nearest < min(float((other - h).norm()) for other in others)


def test_rank_one_finds_sources_in_noise_better_than_filters_of_any_rank():
    errors = {1: [], None: []}
    for seed in range(2):
        rng = np.random.default_rng(seed)
        patterns = rng.standard_normal((2, 8, 1))
        patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
        atoms = patterns * smooth_filters(2, (36,), random_state=rng)
        data = simulate_convolutional(
            10, (800,), atoms=atoms, likelihood="gaussian", noise=0.6, random_state=seed
        )
        for rank, found in errors.items():
            learner = ConvolutionalDictionaryLearner(2, 36, filters=FilterSet(rank=rank), random_state=seed)
            learner.fit(data.X)
            found.append(filter_error(learner.components_, atoms, max_shift=None).max())
            ranks = [np.linalg.matrix_rank(h, tol=1e-6) for h in learner.components_]
            assert ranks == [1, 1] if rank else max(ranks) > 1
    assert max(errors[1]) < 0.28 < 0.35 < min(errors[None])


def test_one_dictionary_has_short_and_long_patterns():
    atoms = np.zeros((2, 1, 48))
    atoms[0, 0, 16:32] = np.hanning(18)[1:-1]
    atoms[1, 0] = np.hanning(50)[1:-1] * np.sin(np.arange(48) / 3)
    data = simulate_convolutional(20, (600,), atoms=atoms, n_events=4, likelihood="gaussian", noise=0.3)
    learner = ConvolutionalDictionaryLearner(2, 48, filters=FilterSet(sizes=(16, 48)), random_state=0).fit(
        data.X
    )
    assert np.flatnonzero(learner.components_[0, 0]).tolist() == list(range(16, 32))
    assert filter_error(learner.components_, data.atoms, max_shift=None).max() < 0.15


@pytest.mark.parametrize(("order", "constants"), [(1, [9.0]), (2, [11.0, 3.0]), (2, [9.0, 8.5])])
def test_decays_are_found_by_their_time_constants(order, constants, rng):
    waveform = waveforms(torch.tensor([constants], dtype=torch.float64), 40)[0]
    h = torch.from_numpy(rng.standard_normal((1, 3, 1))) * waveform
    filters = FilterSet(autoregressive=order)
    torch.testing.assert_close(filters.project(h), h, atol=1e-4, rtol=0)
    if constants[-1] != 8.5:  # equal constants are hardly told apart
        np.testing.assert_allclose(filters.time_constants(h)[0], constants, rtol=1e-2)
    noisy = h + 0.1 * torch.from_numpy(rng.standard_normal(h.shape))
    nearest = filters.project(noisy)
    assert float((nearest - h).norm()) < 0.5 * float((noisy - h).norm())
    for scale in (0.9, 1.1):  # no decay nearby is nearer
        other = waveforms(scale * filters.time_constants(noisy), 40)
        beside = (noisy @ other[..., None]) * other[:, None]
        assert float((nearest - noisy).norm()) <= float((beside - noisy).norm()) + 1e-9


@pytest.mark.parametrize(("order", "constants"), [(1, [10.0]), (2, [14.0, 3.0])])
def test_time_constants_of_a_calcium_indicator_are_learned(order, constants, rng):
    kernel = waveforms(torch.tensor([constants], dtype=torch.float64), 50).numpy()
    spikes = (rng.random((10, 551)) < 0.015) * rng.uniform(1.0, 2.0, (10, 551))
    X = np.stack([np.convolve(s, kernel[0]) for s in spikes])[:, None]
    X = X + rng.normal(scale=0.05, size=X.shape)
    filters = FilterSet(autoregressive=order)
    learner = ConvolutionalDictionaryLearner(
        1, 50, filters=filters, nonnegative=True, detrend=None, n_init=1, max_iter=15, tol=0, random_state=0
    ).fit(X)
    np.testing.assert_allclose(
        filters.project(torch.from_numpy(learner.components_)), learner.components_, atol=1e-6
    )
    np.testing.assert_allclose(filters.time_constants(learner.components_)[0], constants, rtol=0.1 * order)


@pytest.mark.parametrize("optimizer", ["online", "adam"])
def test_learning_stays_in_the_set(optimizer):
    data = simulate_convolutional(
        8, (200,), n_components=2, kernel_size=(20,), likelihood="gaussian", noise=0.5
    )
    filters = FilterSet(nonnegative=True, tapered=True)
    learner = ConvolutionalDictionaryLearner(
        2, 20, alpha=1.0, filters=filters, optimizer=optimizer, max_iter=3, tol=0, random_state=0
    ).fit(data.X)
    assert learner.components_.min() >= 0
    assert not learner.components_[..., [0, -1]].any()
    np.testing.assert_allclose(np.square(learner.components_).sum((1, 2)), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FilterSet(rank=2), "rank: expected an integer from 1 to 1|rank: expected"),
        (lambda: FilterSet(sizes=(0,)), "sizes: expected"),
        (lambda: FilterSet(norm="sphere"), "norm: expected"),
        (lambda: FilterSet(autoregressive=3), "autoregressive: expected"),
        (lambda: FilterSet(autoregressive=1, tapered=True), "autoregressive: expected None with tapered"),
        (lambda: FilterSet(autoregressive=1).check(2, (9, 9)), "expected None for filters with 2 axes"),
        (lambda: FilterSet().time_constants(torch.ones(1, 1, 9)), "expected a set with autoregressive"),
        (
            lambda: FilterSet(sizes=(4,)).check(2, (9,)),
            "sizes: expected one for each of the 2 filters, got 1",
        ),
        (lambda: FilterSet(sizes=(4, 10)).check(2, (9,)), "sizes: expected at most the kernel's 9, got 10"),
        (lambda: FilterSet(sizes=(4, 2), tapered=True).check(2, (9,)), "sizes: expected at least 3, got 2"),
    ],
)
def test_sets_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "filters", [FilterSet(autoregressive=1), FilterSet(rank=1, sizes=(9, 5)), FilterSet(norm="ball")]
)
def test_a_file_keeps_the_set_of_filters(filters, tmp_path, rng):
    X = rng.standard_normal((3, 2, 60))
    learner = ConvolutionalDictionaryLearner(2, 9, filters=filters, max_iter=1, n_init=1, random_state=0).fit(
        X
    )
    learner.save(tmp_path / "f.safetensors")
    loaded = ConvolutionalDictionaryLearner.load(tmp_path / "f.safetensors")
    assert loaded.filters == filters
    np.testing.assert_array_equal(loaded.transform(X), learner.transform(X))


def test_a_set_of_filters_that_no_learner_writes_is_refused(tmp_path, rng):
    X = rng.standard_normal((2, 1, 40))
    learner = ConvolutionalDictionaryLearner(1, 5, max_iter=1, n_init=1, random_state=0).fit(X)
    for fields in ([["rank", 7]], [["code", "x"]], ["rank"]):
        learner.filters = fields
        learner.save(tmp_path / "f.safetensors")
        with pytest.raises(FileFormatError, match="f.safetensors is not a readable"):
            ConvolutionalDictionaryLearner.load(tmp_path / "f.safetensors")

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calepin.learning import ArrayBatches, IterableBatches
from calepin.learning.batches import permuted


@settings(deadline=None, derandomize=True, max_examples=60)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**32), n_pass=st.integers(0, 100))
def test_the_order_of_a_pass_is_a_permutation(n, seed, n_pass):
    order = permuted(np.arange(n, dtype=np.uint64), n, (seed, n_pass))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_the_order_looks_random_and_changes_with_seed_and_pass():
    n = 10_000
    positions = np.arange(n, dtype=np.uint64)
    orders = [permuted(positions, n, key) for key in [(0, 0), (0, 1), (1, 0)]]
    for a, order in enumerate(orders):
        assert abs(np.corrcoef(order, positions)[0, 1]) < 0.05
        assert (np.diff(order) == 1).sum() < 10
        for other in orders[:a]:
            assert (order == other).sum() < 15


def test_a_pass_shows_every_sample_once(rng):
    X = np.arange(103)[:, None] * np.ones(3)
    seen = np.concatenate([batch.X[:, 0] for batch in ArrayBatches(X, 10).walk(0)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(103))


def test_a_batch_depends_on_the_step_alone(rng):
    data = ArrayBatches(rng.standard_normal((100, 3)), 7, seed=3)
    all_batches = list(data.walk(2))
    for skip in (0, 1, 13, 14):
        for mine, other in zip(data.walk(2, skip), all_batches[skip:], strict=True):
            np.testing.assert_array_equal(mine.X, other.X)


def test_workers_share_a_pass_without_overlap():
    X = np.arange(96)[:, None] * np.ones(2)
    seen = [
        batch.X[:, 0] for rank in range(3) for batch in ArrayBatches(X, 8, seed=1, rank=rank, world=3).walk(0)
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(96))


def test_a_memory_mapped_file_gives_the_batches_of_the_array(tmp_path, rng):
    X = rng.standard_normal((60, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for a, b in zip(ArrayBatches(X, 16).walk(0), ArrayBatches(mapped, 16).walk(0), strict=True):
        np.testing.assert_array_equal(a.X, b.X)
        assert b.X.flags.c_contiguous


def test_tensors_and_masks_come_along(rng):
    X, mask = rng.standard_normal((20, 4)), rng.random((20, 4)) > 0.5
    plain = ArrayBatches(X, 6, mask=mask)
    placed = ArrayBatches(X, 6, mask=mask, device="cpu")
    for a, b in zip(plain.walk(0), placed.walk(0), strict=True):
        assert isinstance(b.X, torch.Tensor)
        np.testing.assert_array_equal(a.X, b.X.numpy())
        np.testing.assert_array_equal(a.mask, b.mask.numpy())


def test_an_iterable_is_walked_anew_in_each_pass(rng):
    batches = [rng.standard_normal((4, 3)) for _ in range(3)]
    data = IterableBatches(batches)
    for n_pass in range(2):
        for mine, given_ in zip(data.walk(n_pass), batches, strict=True):
            np.testing.assert_array_equal(mine.X, given_)
    np.testing.assert_array_equal(next(iter(data.walk(0, skip=2))).X, batches[2])


def test_an_iterator_gives_all_its_batches_once_though_its_head_was_looked_at(rng):
    batches = [rng.standard_normal((4, 3)) for _ in range(3)]
    data = IterableBatches(iter(batches))
    data.head(2, rng)
    assert len(list(data.walk(0))) == 3
    with pytest.raises(ValueError, match="only once: pass max_iter=1"):
        list(data.walk(1))


def test_nan_in_an_iterable_is_missing_or_an_error():
    rows = np.array([[1.0, np.nan], [2.0, 3.0]])
    (batch,) = IterableBatches([rows], missing=True).walk(0)
    np.testing.assert_array_equal(batch.mask, [[True, False], [True, True]])
    with pytest.raises(ValueError, match="missing='allow'"):
        list(IterableBatches([rows]).walk(0))


def test_bad_sources_are_named(rng):
    with pytest.raises(ValueError, match="X: expected at least one sample"):
        ArrayBatches(np.zeros((0, 3)), 4)
    with pytest.raises(ValueError, match="batch_size: expected a positive integer or None, got 0"):
        ArrayBatches(np.zeros((3, 3)), 0)
    with pytest.raises(ValueError, match=r"mask: expected X's shape \(3, 3\), got \(3, 2\)"):
        ArrayBatches(np.zeros((3, 3)), 2, mask=np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="without any batch"):
        IterableBatches([]).head(1, rng)
    with pytest.raises(ValueError, match=r"batches \(n_samples, n_features\), got shape \(3,\)"):
        list(IterableBatches([np.zeros(3)]).walk(0))

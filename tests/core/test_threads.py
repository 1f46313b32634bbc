import multiprocessing
import threading
import time
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from calepin.core.threads import run_blocks, single_threaded_blas


@pytest.mark.parametrize("n_threads", [1, 2])
def test_blocks_cover_the_range_in_order(with_threads, n_threads):
    blocks = with_threads(n_threads, lambda: run_blocks(lambda start, stop: (start, stop), 10, 4))
    assert blocks == [(0, 4), (4, 8), (8, 10)]


def test_no_samples_no_blocks():
    assert run_blocks(lambda start, stop: 1, 0, 4) == []


def test_products_have_the_same_bits_on_any_number_of_threads(with_threads, rng):
    A, B = rng.standard_normal((700, 300)), rng.standard_normal((300, 200))

    def product():
        return np.concatenate(run_blocks(lambda start, stop: A[start:stop] @ B, 700, 64))

    np.testing.assert_array_equal(with_threads(1, product), with_threads(2, product))


def test_the_first_error_stops_what_has_not_begun(with_threads):
    begun = []
    first = threading.Event()

    def work(start, stop):
        begun.append(start)
        if start == 0:
            first.set()
            raise ValueError("block 0")
        first.wait(5)
        time.sleep(0.002)

    with pytest.raises(ValueError, match="block 0"):
        with_threads(2, lambda: run_blocks(work, 1000, 1))
    assert len(begun) < 1000


def test_a_forked_process_works_on_threads_of_its_own(with_threads):
    def fork():
        run_blocks(lambda start, stop: start, 10, 1)
        context = multiprocessing.get_context("fork")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of forks beside threads: that is the test
            child = context.Process(target=_work_in_child)
            child.start()
        child.join(30)
        return child.exitcode

    assert with_threads(2, fork) == 0


def _work_in_child():
    assert run_blocks(lambda start, stop: start, 4, 1) == [0, 1, 2, 3]


def test_the_limit_on_blas_ends_with_the_outermost_context_also_after_an_error():
    def n_blas():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with single_threaded_blas():
        pass  # loads every BLAS
    with threadpool_limits(2, user_api="blas"):
        with single_threaded_blas():
            with pytest.raises(ValueError, match="inner"), single_threaded_blas():
                assert n_blas() == {1}
                raise ValueError("inner")
            assert n_blas() == {1}
        assert n_blas() == {2}
        with pytest.raises(ValueError, match="outer"), single_threaded_blas():
            raise ValueError("outer")
        assert n_blas() == {2}

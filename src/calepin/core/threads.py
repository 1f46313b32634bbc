"""Parallel work whose result does not depend on the number of threads.

Samples are cut into blocks whose boundaries depend on the data alone. Each block is processed by one
thread, with single-threaded BLAS. The order of every sum is therefore fixed, and results are the same bit
for bit on any number of threads. Compiled kernels and BLAS release the interpreter lock, so plain Python
threads run them in parallel. A second threading runtime could conflict with torch's.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import local
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

__all__ = ["n_threads", "run_blocks", "single_threaded_blas", "single_threaded_torch"]


def n_threads() -> int:
    """Return the number of worker threads: that of torch, so that one setting controls both."""
    return torch.get_num_threads()


@cache
def _controller() -> ThreadpoolController:
    # Scanning the loaded libraries takes milliseconds: do it once.
    import scipy.linalg.blas  # noqa: F401  loads every BLAS that numba and scipy call

    return ThreadpoolController()


_inside = local()  # whether this thread is in such a context


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Run NumPy's and SciPy's BLAS on one thread; inside another such context, setting it again is saved."""
    if getattr(_inside, "blas", False):
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        _inside.blas = True
        try:
            yield
        finally:
            _inside.blas = False


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Run torch's own operations on one thread: the order of its sums depends on the number of threads."""
    n = torch.get_num_threads()
    if n > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if n > 1:
            torch.set_num_threads(n)


def run_blocks(function: Callable[[int, int], T], n: int, block: int) -> list[T]:
    """Call ``function(start, stop)`` on every block of ``range(n)``; return the results in order.

    After the first exception (also KeyboardInterrupt), blocks that have not started are cancelled.
    """
    starts = range(0, n, block)
    with single_threaded_blas():
        if len(starts) <= 1 or n_threads() == 1:
            return [function(start, min(start + block, n)) for start in starts]
        pool = _pool(n_threads())
        jobs = [pool.submit(function, start, min(start + block, n)) for start in starts]
        try:
            return [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()
            wait(jobs)


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    # Cached: in online learning, starting threads would take as long as processing a batch.
    return ThreadPoolExecutor(size, thread_name_prefix="calepin")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork

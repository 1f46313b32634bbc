"""Work on one thread of torch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["single_threaded_torch"]


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Run torch's operations on one thread; afterwards their number is what it was.

    How torch's BLAS splits a sum depends on the number of threads, and so do the last bits of its result.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Arrays of coders: half precision is taken, what is no array or hides entries is refused by name."""

import numpy as np
import pytest
import torch

from calepin.operators import Dense
from calepin.penalties import L1
from calepin.solvers import (
    ProximalCoder,
    convolutional_encode,
    convolutional_pursuit,
    dense_problem,
    refit_codes,
    sparse_encode,
)

RNG = np.random.default_rng(0)
SIGNALS = RNG.standard_normal((2, 1, 30)).astype(np.float32)
ATOMS = RNG.standard_normal((3, 1, 5)).astype(np.float32)
ROWS = RNG.standard_normal((4, 6))
RAGGED = [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convolutional_encode([[RAGGED]], ATOMS, alpha=1.0), "y: expected an array of numbers"),
        (lambda: convolutional_encode(SIGNALS, [RAGGED], alpha=1.0), "atoms: expected an array of numbers"),
        (lambda: sparse_encode(RAGGED, ROWS, alpha=1.0), "X: expected an array of numbers"),
        (lambda: sparse_encode(ROWS, RAGGED, alpha=1.0), "atoms: expected an array of numbers"),
        (lambda: sparse_encode(ROWS, ROWS, alpha=1.0, mask=RAGGED), "mask: expected an array of numbers"),
        (lambda: sparse_encode(ROWS, np.ma.masked_less(ROWS, 0), alpha=1.0), "atoms: expected no mask"),
        (
            lambda: convolutional_encode(np.ma.masked_less(SIGNALS, 0), ATOMS, alpha=1.0),
            "y: expected no mask",
        ),
    ],
)
def test_what_is_no_plain_array_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_class_is_no_data_set():
    with pytest.raises((TypeError, ValueError), match="X: expected"):
        sparse_encode(np.ndarray, ROWS, alpha=1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_coded_as_its_values_in_single_precision(dtype):
    y, atoms = (torch.from_numpy(values).to(dtype) for values in (SIGNALS, ATOMS))
    coded = convolutional_encode(y, atoms, alpha=0.5)
    assert coded.dtype == torch.float32
    assert torch.equal(coded, convolutional_encode(y.float(), atoms.float(), alpha=0.5))
    events = convolutional_pursuit(y, atoms, n_nonzero=3)
    assert torch.equal(events, convolutional_pursuit(y.float(), atoms.float(), n_nonzero=3))
    assert torch.equal(
        refit_codes(y, atoms, events.to(dtype)),
        refit_codes(y.float(), atoms.float(), events.to(dtype).float()),
    )


def test_an_initial_code_with_nan_is_refused():
    problem = dense_problem(torch.from_numpy(ROWS), torch.from_numpy(ROWS))
    assert isinstance(problem.operator, Dense)
    with pytest.raises(ValueError, match="z0: expected finite values"):
        ProximalCoder(L1(0.1)).encode(problem, z0=torch.full((4, 4), torch.nan, dtype=torch.float64))


def test_a_mask_may_be_read_only():
    mask = np.ones(ROWS.shape, bool)
    mask[0, 0] = False
    writable = sparse_encode(ROWS, ROWS[:2], alpha=0.1, mask=mask)
    mask.setflags(write=False)
    np.testing.assert_array_equal(sparse_encode(ROWS, ROWS[:2], alpha=0.1, mask=mask), writable)

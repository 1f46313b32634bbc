import math

import numpy as np
import pytest
import torch

from calepin.penalties import L1, ElasticNet, GroupL1, HardThreshold, NonNegativeL1
from calepin.testing import check_penalty

WEIGHTS = torch.tensor([0.0, 0.5, 1.0, 2.0, 0.1, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("penalty", "shape"),
    [
        (L1(0.7), (6,)),
        (L1(0.0), (6,)),
        (L1(WEIGHTS), (6,)),
        (L1(0.7), (3, 4)),
        (NonNegativeL1(0.7), (6,)),
        (NonNegativeL1(WEIGHTS), (6,)),
        (ElasticNet(0.7, 0.4), (6,)),
        (ElasticNet(0.7, 0.4, nonnegative=True), (3, 4)),
        (GroupL1(0.9, 3), (6,)),
        (GroupL1(0.9, 1), (6,)),
        (GroupL1(0.9, 2), (4, 3)),
        (GroupL1(torch.tensor([0.2, 2.0], dtype=torch.float64), 3), (6,)),
    ],
    ids=str,
)
def test_penalties_conform(penalty, shape):
    check_penalty(penalty, shape=shape)


@pytest.mark.parametrize("penalty", [HardThreshold(0.8), HardThreshold(0.0), HardThreshold(WEIGHTS)])
def test_hard_threshold_minimises_whatever_the_step(penalty):
    check_penalty(penalty, weight=lambda step: 1.0)


def test_the_soft_threshold_of_one_entry_is_found_by_a_fine_search():
    grid = np.linspace(-5, 5, 200_001)
    for v in (-2.3, -0.4, 0.0, 0.9, 3.1):
        for penalty, g in (
            (L1(0.7), 0.7 * np.abs(grid)),
            (NonNegativeL1(0.7), np.where(grid < 0, np.inf, 0.7 * grid)),
            (ElasticNet(0.7, 0.5), 0.7 * np.abs(grid) + 0.25 * grid**2),
        ):
            best = grid[np.argmin(0.5 * (v - grid) ** 2 + 1.3 * g)]
            found = penalty.prox(torch.tensor([[v]], dtype=torch.float64), 1.3)
            assert float(found) == pytest.approx(best, abs=1e-4)


def test_complex_codes_keep_their_phase():
    v = torch.tensor([[3 + 4j, 0.1j]], dtype=torch.complex128)
    torch.testing.assert_close(L1(1.0).prox(v, 2.0), torch.tensor([[(3 + 4j) * 3 / 5, 0]], dtype=v.dtype))


def test_negative_codes_cost_infinity():
    value = NonNegativeL1(1.0).value(torch.tensor([[1.0, -0.1], [1.0, 2.0]]))
    assert value.tolist() == [math.inf, 3.0]


def test_gradients_flow_through_the_weight_and_the_code():
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    v = torch.tensor([[2.0, -3.0, 0.1]], dtype=torch.float64, requires_grad=True)
    L1(alpha).prox(v, 1.0).sum().backward()
    torch.testing.assert_close(v.grad, torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64))
    assert float(alpha.grad) == pytest.approx(0.0)  # -1 for the positive entry, +1 for the negative


@pytest.mark.parametrize("make", [L1, NonNegativeL1, HardThreshold, lambda a: GroupL1(a, 2)])
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "a", torch.tensor([1.0, -2.0])])
def test_bad_weights_are_named(make, weight):
    with pytest.raises(ValueError, match="(alpha|threshold): expected a finite number"):
        make(weight)


def test_bad_groups_are_named():
    with pytest.raises(ValueError, match="group_size: expected a positive integer, got 0"):
        GroupL1(1.0, 0)
    with pytest.raises(ValueError, match="group_size: expected a divisor of the 5 atoms, got 2"):
        GroupL1(1.0, 2).prox(torch.ones(1, 5), 1.0)

"""The loop: when it ends, who rests, who leaves the batch, what callbacks see."""

from dataclasses import dataclass

import pytest
import torch

from calepin.core.samples import Rows
from calepin.solvers.iterate import RelativeChange, iterate, ran_away

RATES = torch.tensor([0.0, 0.5, 0.9, 0.99], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Shrinking(Rows):
    z: torch.Tensor
    count: torch.Tensor


class Rates:
    """A problem of samples that shrink, each at its own rate."""

    separable = True

    def __init__(self, rates=RATES):
        self.rates = rates
        self.sizes = []

    def take(self, rows):
        smaller = Rates(self.rates[rows])
        smaller.sizes = self.sizes
        return smaller


class Shrink:
    def init(self, problem, z0):
        return Shrinking(z0, torch.zeros(len(z0), dtype=torch.int64))

    def step(self, problem, state):
        problem.sizes.append(len(state.z))
        return Shrinking(problem.rates[:, None] * state.z, state.count + 1)


def small(problem, before, state):
    return state.z[:, 0] < 0.1


def run(problem=None, **how):
    problem = problem or Rates()
    z0 = torch.ones(len(problem.rates), 2, dtype=torch.float64)
    iteration = Shrink()
    return iterate(problem, iteration, iteration.init(problem, z0), **how)


def test_without_rests_it_does_just_what_is_asked():
    found = run(n_iter=7)
    assert found.n_iter == 7
    torch.testing.assert_close(found.z[:, 0], RATES**7)
    torch.testing.assert_close(found.before[:, 0], RATES**6)
    torch.testing.assert_close(found.first[:, 0], RATES)
    assert not found.resting.any()


def test_no_iterations_give_back_the_start():
    found = run(n_iter=0)
    assert found.n_iter == 0
    assert found.z is found.first is found.before is found.state.z


def test_it_ends_when_all_rest_at_once():
    found = run(n_iter=1000, rests=small)
    assert found.n_iter == 230  # the first k with .99^k < .1
    assert found.resting.all()
    torch.testing.assert_close(found.z[:, 0], RATES**230)


def test_rest_is_that_of_the_last_iteration_unless_frozen():
    """A sample that rests in one iteration and moves in the next keeps the loop going."""

    def odd(problem, before, state):
        return torch.tensor([True, bool(state.count[0] % 2), bool((state.count[0] + 1) % 2), True])

    found = run(n_iter=6, rests=odd)
    assert found.n_iter == 6
    assert found.resting.tolist() == [True, False, True, True]
    assert run(Unseparable(), n_iter=6, rests=odd, freeze=True).n_iter == 2


def test_it_may_be_asked_to_go_on_at_rest():
    found = run(n_iter=240, rests=small, until_rest=False)
    assert found.n_iter == 240
    assert found.resting.all()


def test_frozen_samples_are_kept_as_they_came_to_rest_and_leave_the_batch():
    problem = Rates()
    found = run(problem, n_iter=1000, rests=small, freeze=True)
    expected = [1, 4, 22, 230]
    torch.testing.assert_close(found.z[:, 0], RATES ** torch.tensor(expected))
    assert found.resting.all()
    assert found.n_iter == 230
    # three of four are enough to stay, two are not
    assert problem.sizes == [4] * 4 + [2] * 18 + [1] * 208


class Unseparable(Rates):
    separable = False


def test_samples_of_a_problem_that_is_not_separable_stay_in_the_batch():
    problem = Unseparable()
    found = run(problem, n_iter=1000, rests=small, freeze=True)
    torch.testing.assert_close(found.z[:, 0], RATES ** torch.tensor([1, 4, 22, 230]))
    assert problem.sizes == [4] * 230


def test_frozen_samples_may_outlive_the_rest_of_all():
    found = run(n_iter=240, rests=small, freeze=True, until_rest=False)
    assert found.n_iter == 240
    torch.testing.assert_close(found.z[:, 0], RATES ** torch.tensor([1, 4, 22, 230]))


def test_those_that_have_not_come_to_rest_are_reported():
    found = run(n_iter=22, rests=small, freeze=True)
    assert found.resting.tolist() == [True, True, True, False]
    torch.testing.assert_close(found.z[3, 0], RATES[3] ** 22)


def test_the_start_is_left_as_it_was():
    z0 = torch.ones(4, 2, dtype=torch.float64)
    iterate(Rates(), Shrink(), Shrink().init(Rates(), z0), n_iter=30, rests=small, freeze=True)
    assert (z0 == 1).all()


def test_callbacks_see_every_state_and_may_end_the_loop():
    seen = []

    def watch(state):
        seen.append(int(state.count[0]))

    found = run(n_iter=9, callbacks=[watch, lambda state: int(state.count[0]) == 5])
    assert seen == [1, 2, 3, 4, 5]
    assert found.n_iter == 5


def test_callbacks_see_the_iteration_in_which_all_rest():
    seen = []
    run(Rates(RATES[:2]), n_iter=9, rests=small, callbacks=[lambda state: seen.append(state)])
    assert len(seen) == 4


def test_the_relative_change_is_recorded_and_does_not_wait_for_what_is_not_finite():
    change = RelativeChange(0.6)
    z = torch.tensor([[2.0], [0.0], [torch.nan], [1.0]])
    before = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    resting = change(None, before, Shrinking(z, torch.zeros(4)))
    assert resting.tolist() == [True, True, True, False]
    assert change.converged.tolist() == [True, True, False, False]
    assert len(change.history) == 1


@pytest.mark.parametrize(("last", "expected"), [(10.0, False), (1e5, True), (float("nan"), True)])
def test_a_run_ran_away_when_its_last_move_dwarfs_its_first(last, expected):
    z0, first, before = torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 3)
    z = torch.ones(2, 3)
    z[1] = last
    assert ran_away(z0, first, before, z) is expected


def test_frozen_samples_are_none_without_a_test_of_convergence():
    free, frozen = run(n_iter=5), run(n_iter=5, freeze=True)
    torch.testing.assert_close(frozen.z, free.z, rtol=0, atol=0)
    assert not frozen.resting.any()


def test_a_code_that_leaves_zero_late_has_not_run_away():
    z0, z = torch.zeros(2, 3), torch.tensor([[1.0, 0, 0], [0, 0, 0.1]])
    first = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    assert not ran_away(z0, first, z0, z)
    assert ran_away(z0, first, z0, 1e5 * z)

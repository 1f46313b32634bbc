"""Filters are moved to the middle of their kernels, where there is one, and only then."""

from functools import partial

import numpy as np
import pytest
import torch

from calepin.datasets import simulate_convolutional
from calepin.learning import Convolutional, SignalBatches, TrainState, initial_filters, train
from calepin.learning.filters import centre_
from calepin.likelihoods import Binomial
from calepin.metrics import filter_error
from calepin.solvers import ConvolutionalPursuitCoder


def bump(size, place, width=2.0):
    h = torch.exp(-0.5 * ((torch.arange(size, dtype=torch.float64) - place) / width) ** 2)
    return h / h.norm()


@pytest.mark.parametrize("place", [4, 9, 31, 36])
def test_a_bump_is_moved_to_the_middle_and_stays_there(place):
    filters = torch.stack([bump(41, 20)[None], -bump(41, place)[None]])
    assert centre_(filters) == [1]
    torch.testing.assert_close(filters[1], -filters[0], rtol=0.03, atol=0.03)
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(2).double())
    assert centre_(filters) == []


def test_both_axes_of_an_image_are_moved():
    middle, aside = bump(15, 7, 1.0), bump(15, 11, 1.0)
    filters = torch.outer(aside, aside.flip(0))[None, None].repeat(1, 2, 1, 1) / 2**0.5
    assert centre_(filters) == [0]
    expected = torch.outer(middle, middle)[None, None].repeat(1, 2, 1, 1) / 2**0.5
    torch.testing.assert_close(filters, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "h",
    [
        bump(41, 23),  # hardly aside
        torch.tensor([1.0] * 5 + [0.0] * 21 + [1.0] * 15).double(),  # from one edge to the other
        bump(5, 3, 0.5),  # no room
    ],
)
def test_what_is_in_place_or_fills_its_kernel_is_left_alone(h):
    filters = (h / h.norm())[None, None].clone()
    before = filters.clone()
    assert centre_(filters) == []
    assert torch.equal(filters, before)


def test_nothing_but_noise_is_pushed_over_the_edge(rng):
    h = torch.cat([torch.zeros(30), torch.ones(20)]).double() + 0.05 * torch.from_numpy(
        rng.standard_normal(50)
    )
    filters = (h / h.norm())[None, None].clone()
    before = filters.clone()
    assert centre_(filters) == [0]
    kept = max(float((before[0, 0, s:] * filters[0, 0, : 50 - s]).sum()) for s in range(1, 30))
    assert kept**2 >= 0.98


def cut(centre):
    """Learn from filters that lie half outside of their kernels."""
    data = simulate_convolutional(
        60, (200,), n_components=2, kernel_size=(30,), n_events=3, trials=25, random_state=0
    )
    source = SignalBatches(data.X, 60, likelihood=Binomial(25), dtype=torch.float64)
    start = np.zeros_like(data.atoms)
    start[:, :, 12:] = data.atoms[:, :, :-12]
    rule = Convolutional(
        ConvolutionalPursuitCoder(6),
        n_updates=10,
        optimizer=partial(torch.optim.Adam, lr=0.02, eps=1e-3),
        centre=centre,
    )
    filters = initial_filters(2, (30,), source, init=start, generator=np.random.default_rng(0))
    state = train(rule, source, TrainState(rule.init(filters)), max_iter=8)
    return filter_error(state.learned.atoms, data.atoms, max_shift=15).max(), state


def test_what_the_edge_cut_off_is_learned_once_it_has_room():
    stuck, free = cut(False)[0], cut(True)[0]
    assert free < 0.2 < stuck


def test_the_optimiser_forgets_a_filter_that_moved():
    state = cut(True)[1].learned
    state.atoms[0, 0] = torch.roll(bump(30, 14), 10)
    memory = [value for value in state.memory.values() if value.shape == state.atoms.shape]
    assert len(memory) == 2  # Adam's
    assert all(m[0].any() for m in memory)
    Convolutional(ConvolutionalPursuitCoder(6), centre=True).end_pass(state)
    assert not any(m[0].any() for m in memory)
    assert all(m[1].any() for m in memory)


def test_a_filter_without_energy_stays_where_it_is():
    assert centre_(torch.zeros(1, 1, 30)) == []

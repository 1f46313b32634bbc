"""SOAP is Adam in a basis that turns with the gradients."""

from functools import partial

import pytest
import torch
from torch import nn

from calepin.datasets import PoissonNoise
from calepin.learning import SOAP, ArrayBatches, NetworkRule, TrainState, load_checkpoint, train
from calepin.likelihoods import Poisson
from calepin.networks import UnfoldedAutoencoder
from calepin.penalties import NonNegativeL1


@pytest.fixture
def random():
    """Draw normal numbers, the same in every test whichever ran before."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def iterates(loss, start, n_steps, optimizer):
    weight = nn.Parameter(start.clone())
    optimizer = optimizer([weight])
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss(weight).backward()
        optimizer.step()
    return weight.detach()


def test_a_turned_problem_has_turned_iterates(random):
    target, mixing = random(6, 6), torch.diag(torch.logspace(0, 1, 6, dtype=torch.float64))
    left, right = (torch.linalg.qr(random(6, 6))[0] for _ in range(2))
    start = random(6, 6)
    plain = iterates(lambda w: (w @ mixing - target).square().sum(), start, 25, SOAP)
    turned = iterates(
        lambda w: (left.T @ w @ right @ mixing - target).square().sum(), left @ start @ right.T, 25, SOAP
    )
    torch.testing.assert_close(turned, left @ plain @ right.T, rtol=1e-7, atol=1e-7)


def test_what_is_flat_comes_down_where_adam_sees_only_what_is_steep(random):
    basis = torch.linalg.qr(random(20, 20))[0]
    half = basis * torch.logspace(0, -2, 20, dtype=torch.float64)
    start = random(10, 20)

    def flat_part(optimizer):
        weight = iterates(lambda w: (w @ half).square().sum(), start, 400, optimizer)
        return torch.linalg.vector_norm(weight @ basis[:, 15:])

    soap = flat_part(lambda p: SOAP(p, lr=2e-2))
    adam = flat_part(lambda p: torch.optim.Adam(p, lr=2e-2, betas=(0.9, 0.99)))
    assert soap < 0.05 * adam


def test_a_vector_moves_as_by_adam(random):
    target, start = random(7), random(7)

    def loss(w):
        return (w - target).pow(4).sum()

    soap = iterates(loss, start, 30, lambda p: SOAP(p, lr=1e-2, eps=1e-30))
    adam = iterates(loss, start, 30, lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.9, 0.99), eps=1e-30))
    torch.testing.assert_close(soap, adam, rtol=1e-9, atol=1e-9)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    images = torch.rand(6, 1, 24, 24, generator=torch.Generator().manual_seed(1))

    def rule():
        atoms = 0.3 * torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(2))
        network = UnfoldedAutoencoder(
            atoms, NonNegativeL1(0.1), n_unfold=2, stride=3, step_size=1.0, likelihood=Poisson(), tied=False,
            learn_threshold=True, residual_bound=4,
        )  # fmt: skip
        return NetworkRule(network, optimizer=partial(SOAP, refresh=3), noise=PoissonNoise(4))

    def run(state, rule, passes, checkpoint=None):
        return train(rule, ArrayBatches(images, 2, seed=0), state, max_iter=passes, checkpoint=checkpoint)

    whole = run(TrainState(rule().init()), rule(), 4)
    run(TrainState(rule().init()), rule(), 2, tmp_path / "a.checkpoint")
    state = load_checkpoint(tmp_path / "a.checkpoint", rule(), ArrayBatches(images, 2, seed=0))
    run(state, rule(), 4)
    # by rows, as a checkpoint returns them: products of the same sums in the same order
    assert all(tensor.is_contiguous() for tensor in state.learned.tensors().values())
    weights = (ended.learned.network.parameters() for ended in (whole, state))
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"lr": 0.0}, "lr: expected a number above 0"),
        ({"betas": (0.9, 1.0)}, "betas: expected numbers of at least 0 and below 1"),
        ({"statistics": 1.0}, "statistics: expected numbers"),
        ({"refresh": 0}, "refresh: expected a positive integer"),
    ],
)
def test_settings_outside_of_their_range_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        SOAP([nn.Parameter(torch.zeros(3))], **terms)

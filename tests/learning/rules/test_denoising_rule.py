"""The rule for denoisers of all levels: it learns, resumes bit for bit, and follows the seed."""

from functools import partial

import pytest
import torch

from calepin.datasets import GaussianNoise, PoissonNoise
from calepin.learning import ArrayBatches, CosineDecay, DenoisingRule, train_steps
from calepin.networks import UnfoldedDenoiser


def images() -> torch.Tensor:
    """Bars of random directions and widths."""
    generator = torch.Generator().manual_seed(0)
    phase, turn, width = torch.rand(3, 12, 1, 1, 1, generator=generator)
    row, column = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    along = torch.cos(6.3 * turn) * row + torch.sin(6.3 * turn) * column
    return (torch.sin(along * (0.3 + width) + 6.3 * phase) > 0).float()


def rule(**settings) -> DenoisingRule:
    network = UnfoldedDenoiser.random(12, 4, n_unfold=3)
    defaults = {
        "noise": GaussianNoise(0.05, 0.4),
        "optimizer": partial(torch.optim.Adam, lr=1e-2),
        "schedule": CosineDecay(500),
        "max_norm": 5.0,
        "crop": 16,
    }
    return DenoisingRule(network, **defaults | settings)


def run(n_steps: int, checkpoint=None, **settings) -> UnfoldedDenoiser:
    data = ArrayBatches(images(), 4, seed=0)
    return train_steps(rule(**settings), data, n_steps, checkpoint=checkpoint).learned.network


@pytest.mark.parametrize("half_precision", [False, True])
def test_a_network_learns_to_denoise_at_all_levels(half_precision):
    network = run(500, half_precision=half_precision)
    clean = images()
    for sigma in (0.1, 0.35):
        noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            error = (network(noisy, sigma) - clean).square().mean()
        assert error < 0.4 * sigma**2


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = run(6)
    run(3, checkpoint=tmp_path / "run")
    resumed = run(6, checkpoint=tmp_path / "run")
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


def test_the_seed_decides_and_thresholds_stay_nonnegative():
    first, second, other = run(3), run(3), run(3, seed=1)
    assert torch.equal(first.atoms, second.atoms)
    assert not torch.equal(first.atoms, other.atoms)
    assert float(run(20, optimizer=partial(torch.optim.Adam, lr=0.1)).thresholds.detach().min()) >= 0


def test_bad_settings_are_named():
    with pytest.raises((TypeError, ValueError), match="noise"):
        rule(noise=PoissonNoise(4))
    with pytest.raises(ValueError, match="n_shifts: expected 1 to 4, got 5"):
        rule(n_shifts=5)
    with pytest.raises((TypeError, ValueError), match="half_precision"):
        rule(half_precision="yes")

import pytest
import torch

from calepin.likelihoods import Gaussian
from calepin.testing import check_likelihood


@pytest.mark.parametrize("shape", [(4, 1), (3, 5), (2, 3, 4)])
def test_gaussian_conforms(shape):
    eta = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    check_likelihood(Gaussian(), eta)


def test_complex_noise_has_unit_variance_in_both_parts():
    eta = torch.zeros(20_000, dtype=torch.complex128)
    y = Gaussian().sample(eta, generator=torch.Generator().manual_seed(0))
    assert float(y.real.var()) == pytest.approx(1, rel=0.05)
    assert float(y.imag.var()) == pytest.approx(1, rel=0.05)
    assert float(Gaussian().nll(eta[None], y[None])) == pytest.approx(float(0.5 * y.abs().square().sum()))


def test_the_same_seed_draws_the_same_observation():
    eta = torch.zeros(5)
    draws = [Gaussian().sample(eta, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_the_first_bad_entry_is_named():
    y = torch.ones(2, 3)
    y[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"y: expected finite values, got nan at index \(1, 2\)"):
        Gaussian().check(y)

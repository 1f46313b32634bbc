import numpy as np
import pytest
import torch

from calepin.operators import Diagonal, Identity, Wavelet
from calepin.testing import check_operator


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("moments", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_wavelets_conform(moments, dtype):
    check_operator(Wavelet((2, 16, 20), moments=moments, levels=2), dtype=dtype)
    check_operator(Identity((8, 12)) @ Wavelet((8, 12), moments=moments, levels=1), dtype=dtype)


@pytest.mark.parametrize("moments", range(1, 11))
def test_the_adjoint_is_the_inverse(moments):
    wavelet = Wavelet((3, 40, 48), moments=moments, levels=2)
    x = randn(2, 3, 40, 48)
    z = wavelet.adjoint(x)
    torch.testing.assert_close(wavelet(z), x)
    torch.testing.assert_close(z.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))


def test_two_moments_are_daubechies_own_filter():
    root = np.sqrt(3)
    known = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    np.testing.assert_allclose(Wavelet((8, 8), moments=2, levels=1).filters[:, 0], known, atol=1e-14)


@pytest.mark.parametrize("moments", [1, 2, 4, 6])
def test_details_of_polynomials_vanish_away_from_the_border(moments):
    """A filter of p vanishing moments does not see polynomials of degree below p."""
    t = torch.linspace(-1, 1, 64, dtype=torch.float64)
    image = (t ** (moments - 1))[:, None] * (t ** (moments - 1))
    z = Wavelet((64, 64), moments=moments, levels=1).adjoint(image[None])[0]
    inner = 32 - moments
    details = torch.cat([z[32 : 32 + inner, :inner], z[:inner, 32 : 32 + inner]])
    assert details.abs().max() < 1e-10
    assert z[32:].abs().max() > 1e-3 or moments == 1


def test_the_coarsest_image_stands_in_the_corner():
    wavelet = Wavelet((1, 16, 24), levels=1)
    assert wavelet.coarse_shape == (8, 12)
    z = wavelet.adjoint(torch.ones(1, 1, 16, 24, dtype=torch.float64))
    torch.testing.assert_close(z[0, 0, :8, :12], torch.full((8, 12), 2.0, dtype=torch.float64))
    assert z[0, 0, 8:].abs().max() < 1e-12
    assert z[0, 0, :, 12:].abs().max() < 1e-12


def test_arguments_that_wavelets_refuse():
    with pytest.raises(ValueError, match="shape: expected sides of at least 32, divisible by 8, got"):
        Wavelet((1, 36, 40))
    with pytest.raises(ValueError, match="moments: expected 1 to 10, got 11"):
        Wavelet((32, 32), moments=11)
    with pytest.raises(ValueError, match="levels: expected at least 1, got 0"):
        Wavelet((32, 32), levels=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_weights_conform(dtype):
    operator = Diagonal(randn(3, 4, dtype=dtype))
    check_operator(operator, dtype=dtype)
    assert operator.norm_squared() == pytest.approx(float(operator.weights.abs().square().max()))


def test_weights_must_be_finite():
    with pytest.raises(ValueError, match="weights: expected finite values"):
        Diagonal(torch.tensor([1.0, torch.nan]))

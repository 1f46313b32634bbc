import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom

import calepin
from calepin.metrics import psnr
from calepin.operators import Diagonal, Mask, Radon
from calepin.restoration.splitting import gain

LIKE = torch.zeros(1, dtype=torch.float64)


def test_the_gain_is_the_norm_of_what_keeps_or_loses():
    mask = Mask(torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) < 0.3)
    assert gain(mask, LIKE) == pytest.approx(1)
    assert gain(Diagonal(torch.zeros(2, 2, dtype=torch.float64)), LIKE) == 0


def test_the_gain_is_the_mean_of_squared_singular_values_weighted_by_themselves():
    values = torch.linspace(0.1, 3, 100, dtype=torch.float64).reshape(10, 10)
    expected = float(values.pow(4).sum() / values.pow(2).sum()) ** 0.5
    assert gain(Diagonal(values), LIKE) == pytest.approx(expected)
    assert expected < float(values.max())


@pytest.mark.parametrize("n_angles", [20, 60])
def test_projections_are_not_smoothed_by_their_large_norm(n_angles):
    phantom = shepp_logan_phantom().reshape(80, 5, 80, 5).mean((1, 3))
    radon = Radon(phantom.shape, torch.arange(n_angles, dtype=torch.float64) * 180 / n_angles)
    sinogram = radon(torch.from_numpy(phantom)[None])[0].numpy()
    level = 0.005 * sinogram.max()
    y = sinogram + level * np.random.default_rng(0).standard_normal(sinogram.shape)
    result = calepin.restore(y, radon, noise=calepin.GaussianNoise(level), prior="tv", max_iter=50)
    assert psnr(result.image, phantom) > {20: 26, 60: 35}[n_angles]
    assert result.history[-1]["residual"] < 1.7 * level

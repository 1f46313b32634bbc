import numpy as np
import pytest
from scipy.signal import convolve

from calepin.datasets import simulate_convolutional, smooth_filters


def test_the_predictor_is_the_sum_of_shifted_filters_over_the_baseline():
    data = simulate_convolutional(3, (60,), kernel_size=(12,), n_events=4, offset=-1.0, random_state=1)
    expected = -1 + sum(
        np.stack([convolve(z[m], data.atoms[m, 0]) for z in data.codes]) for m in range(len(data.atoms))
    )
    np.testing.assert_allclose(data.eta[:, 0], expected, atol=1e-12)
    assert ((data.codes > 0).sum(2) == 4).all()
    assert (data.codes[data.codes > 0] == 5).all()


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson"])
def test_each_family_scatters_around_its_mean(family):
    data = simulate_convolutional(
        400,
        (50,),
        n_components=1,
        kernel_size=(10,),
        likelihood=family,
        trials=7,
        n_events=1,
        amplitude=(1, 2),
    )
    mean = {"gaussian": data.eta, "binomial": 7 / (1 + np.exp(-data.eta)), "poisson": np.exp(data.eta)}
    residual = data.X - mean[family]
    assert abs(residual.mean()) < 5 * residual.std() / residual.size**0.5
    if family != "gaussian":
        assert (np.round(data.X) == data.X).all()
        assert data.X.min() >= 0


def test_filters_are_smooth_unit_and_seeded():
    filters = smooth_filters(5, (40, 30), n_channels=2, random_state=3)
    np.testing.assert_allclose((filters**2).sum((1, 2, 3)), 1)
    neighbours = (filters[:, :, 1:] * filters[:, :, :-1]).sum((1, 2, 3))
    assert neighbours.min() > 0.8
    np.testing.assert_array_equal(filters, smooth_filters(5, (40, 30), n_channels=2, random_state=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": (70,)}, "signal_shape: expected at least the kernel's size"),
        ({"likelihood": "gamma"}, "likelihood: expected one of"),
        ({"n_events": 100}, "n_events: expected at most the 51 positions"),
        ({"trials": 0}, "trials: expected at least 1"),
        ({"amplitude": (2, 1)}, "amplitude and noise"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        simulate_convolutional(2, (60,), **{"kernel_size": (10,), **settings})

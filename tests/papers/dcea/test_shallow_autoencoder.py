import pytest
import torch

from calepin_papers.dcea.shallow import shallow_autoencoder


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threshold", ["hard", "relu"])
def test_it_is_the_algorithm_of_the_appendix(threshold):
    W, trials, bias = 0.4 * randn(6, 9), 20, 0.7  # W^T of the paper
    y = torch.randint(trials + 1, (50, 9, 1), generator=torch.Generator().manual_seed(1)).double()
    net = shallow_autoencoder(W, trials=trials, bias=bias, threshold=threshold)
    c = 4 * (y[:, :, 0] / trials - 0.5) @ W.T
    x = torch.where(c.abs() > bias, c, 0.0) if threshold == "hard" else torch.relu(c - bias)
    assert 0.05 < (x != 0).double().mean() < 0.95
    torch.testing.assert_close(net.encode(y)[:, :, 0], x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net(y)[:, :, 0], x @ W, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": "soft"}, "threshold: expected one of .*'relu', 'hard'.*, got 'soft'"),
        ({"trials": 0}, "trials: expected whole numbers of at least 1, got 0"),
        ({"atoms": randn(3, 4, 1)}, r"atoms: expected shape \(n_components, n_features\), got \(3, 4, 1\)"),
    ],
)
def test_what_is_wrong_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        shallow_autoencoder(**({"atoms": randn(3, 4), "trials": 5, "bias": 0.1} | settings))

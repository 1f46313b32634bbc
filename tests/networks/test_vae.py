"""The VAE: its bound is a bound, training lowers it and resumes bit for bit, files keep it."""

from functools import partial

import numpy as np
import pytest
import torch

from calepin.core.errors import FileFormatError
from calepin.generators import check_generator
from calepin.learning import ArrayBatches, TrainState, VAERule, load_checkpoint, save_checkpoint, train
from calepin.networks import VAE


def images(n=96, m=12, seed=0):
    """Return pixels in (0, 1) that two numbers decide."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 2)) @ np.random.default_rng(9).normal(size=(2, m))
    return (1 / (1 + np.exp(-2 * mixed))).astype(np.float32)


def elbo(network, X):
    with torch.no_grad():
        return float(network.negative_elbo(torch.from_numpy(X), torch.Generator().manual_seed(0)).mean())


def test_the_bound_is_above_minus_the_log_likelihood():
    """One latent, three binary pixels: log p(x) is an integral over a line."""
    network = VAE(1, 4, 3, seed=3)
    x = torch.tensor([[1.0, 0.0, 1.0]])
    grid = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        p = network.decoder(grid)
        likelihood = (p**x * (1 - p) ** (1 - x)).prod(1)
        density = torch.exp(-0.5 * grid[:, 0] ** 2) / (2 * torch.pi) ** 0.5
        evidence = torch.log((likelihood * density).sum() * 16 / 4000)
        draws = network.negative_elbo(x.repeat(20000, 1), torch.Generator().manual_seed(0))
    assert float(draws.mean()) > -float(evidence)
    assert float(draws.mean()) < -float(evidence) + 0.5


def test_training_lowers_the_bound_and_beats_independent_pixels():
    X, test = images(1000), images(200, seed=1)
    network = VAE(2, 16, 12)
    before = elbo(network, test)
    rule = VAERule(network, optimizer=partial(torch.optim.Adam, lr=1e-2))
    state = train(rule, ArrayBatches(X, 50), TrainState(rule.init()), max_iter=15)
    mean = X.mean(0)
    independent = -(test * np.log(mean) + (1 - test) * np.log(1 - mean)).sum(1).mean()
    assert elbo(state.learned.network, test) < independent < before + 0.5
    assert elbo(network, test) == before  # the run trained a copy


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    data = ArrayBatches(images(), 32, seed=1)

    def rule():
        return VAERule(VAE(2, 6, 12), seed=4)

    whole = train(rule(), data, TrainState(rule().init()), max_iter=3)
    part = train(rule(), data, TrainState(rule().init()), max_iter=1)
    save_checkpoint(tmp_path / "run.safetensors", rule(), data, part)
    resumed = load_checkpoint(tmp_path / "run.safetensors", rule(), data)
    train(rule(), data, resumed, max_iter=3)
    networks = [state.learned.network.parameters() for state in (whole, resumed, part)]
    for one, other, unfinished in zip(*networks, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, unfinished)


def test_a_file_gives_the_network_back(tmp_path):
    network = VAE(2, 6, 12, seed=5)
    network.save(tmp_path / "vae.safetensors", card={"data": "none"})
    again = VAE.load(tmp_path / "vae.safetensors")
    x = torch.from_numpy(images(4))
    assert torch.equal(again(x), network(x))
    assert not again.training
    (tmp_path / "other.safetensors").write_bytes(b"PK\x03\x04")
    with pytest.raises(FileFormatError):
        VAE.load(tmp_path / "other.safetensors")


def test_the_generator_is_the_decoder_without_its_last_layer():
    network = VAE(2, 6, 12)
    generator = network.generator()
    assert check_generator(generator) == 6
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.sigmoid(generator(z) @ network.decoder[2].weight.T), network.decoder(z))


def test_sizes_and_shapes_are_checked():
    with pytest.raises(ValueError, match="latent_dim"):
        VAE(0)
    with pytest.raises(ValueError, match="x: expected shape"):
        VAE(2, 6, 12)(torch.zeros(3, 11))

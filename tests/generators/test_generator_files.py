"""Generators come back from files as they were; strangers are recognised by what they make."""

import numpy as np
import pytest
import torch
from torch import nn

from calepin.core.errors import FileFormatError
from calepin.generators import (
    GroupSparse,
    KSparse,
    PolynomialSine,
    ReLUNet,
    Sine,
    load_generator,
    save_generator,
    truncate,
)
from calepin.generators.files import describe, fingerprint, same_generator
from calepin.networks import VAE, open_generator, pretrained

CUT = truncate(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4, bias=False), nn.ReLU()), 3)


@pytest.mark.parametrize(
    "generator",
    [
        PolynomialSine(2),
        GroupSparse(3, 12),
        KSparse(2, 9),
        ReLUNet((2, 6)),
        Sine(2, 5, dtype=torch.float64),
        CUT,
    ],
)
def test_a_generator_comes_back(tmp_path, generator):
    path = tmp_path / "generator.safetensors"
    save_generator(path, generator)
    again = load_generator(path)
    np.testing.assert_array_equal(fingerprint(again), fingerprint(generator))
    assert again.state_dict().keys() == generator.state_dict().keys()
    assert same_generator(again, fingerprint(generator))


def test_a_vae_is_a_file_with_a_generator(tmp_path):
    network = VAE(2, 6, 12)
    network.save(tmp_path / "vae.safetensors")
    loaded = open_generator(tmp_path / "vae.safetensors")
    np.testing.assert_array_equal(fingerprint(loaded), fingerprint(network.generator()))


def test_generators_are_opened_by_name_or_file(tmp_path):
    save_generator(tmp_path / "cut.safetensors", CUT)
    np.testing.assert_array_equal(fingerprint(open_generator(tmp_path / "cut.safetensors")), fingerprint(CUT))
    shipped = pretrained("vae-digits").generator()
    np.testing.assert_array_equal(fingerprint(open_generator("vae-digits")), fingerprint(shipped))
    with pytest.raises(ValueError, match="generator: expected a VAE or a generator, got bsd-gaussian"):
        open_generator("bsd-gaussian")


def test_strangers_have_no_file_but_a_fingerprint(tmp_path):
    def stranger(z):
        return torch.sin(z)

    assert describe(stranger) is None
    assert describe(nn.Sequential(nn.Linear(2, 3), nn.Dropout())) is None
    assert describe(nn.Sequential(nn.ELU(alpha=0.3))) is None
    with pytest.raises(ValueError, match="which cannot be saved"):
        save_generator(tmp_path / "a", stranger)
    print_of = fingerprint(stranger, 3)
    assert same_generator(stranger, print_of, 3)
    assert not same_generator(torch.cos, print_of, 3)
    assert not same_generator(PolynomialSine(3), print_of)


def test_unknown_classes_are_refused(tmp_path):
    from calepin.core.files import save_arrays

    for description in ({"family": "Nobody", "settings": {}}, {"layers": [{"layer": "Conv9"}]}, {}):
        save_arrays(tmp_path / "a.safetensors", "generator", {}, {"generator": description})
        with pytest.raises(FileFormatError, match="generator: expected one known to this version"):
            load_generator(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("name", "sizes"), [("vae-mnist", (20, 400, 784)), ("vae-digits", (10, 100, 64))])
def test_shipped_networks_load(name, sizes):
    network = pretrained(name)
    assert (network.latent_dim, network.n_hidden, network.n_features) == sizes
    with pytest.raises(ValueError, match="name: expected one of"):
        pretrained("nobody")


def test_the_shipped_digits_are_as_good_as_their_card_says():
    from calepin.datasets import load_digits

    pixels = torch.from_numpy(load_digits()[0][1500:])
    with torch.no_grad():
        bound = pretrained("vae-digits").negative_elbo(pixels, torch.Generator().manual_seed(0)).mean()
    assert abs(float(bound) - 24.3) < 0.5

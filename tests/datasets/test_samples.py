"""What is bundled loads without a network; the data folder says what is missing."""

import socket

import numpy as np
import pytest

from calepin.datasets import (
    SAMPLES,
    data_path,
    has_data,
    load_digits,
    load_sample,
    simulate_sparse,
)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_loads_offline(name):
    image = load_sample(name)
    assert image.bits == 8
    assert min(image.pixels.shape[:2]) > 100
    assert image.pixels.std() > 0.02


def test_the_camera_is_the_image_of_scikit_image():
    from skimage import data

    np.testing.assert_array_equal(np.rint(load_sample("camera").pixels * 255), data.camera())


def test_an_unknown_sample_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"sample: expected one of astronaut, .*got 'lena'"):
        load_sample("lena")


@pytest.mark.usefixtures("no_network")
def test_digits_are_rows_between_zero_and_one():
    X, labels = load_digits()
    assert X.shape == (1797, 64)
    assert (X.min(), X.max()) == (0, 1)
    assert set(labels) == set(range(10))


def test_simulated_samples_are_what_they_say():
    data = simulate_sparse(200, 10, 15, n_nonzero=3, amplitude=(1, 2), random_state=3)
    np.testing.assert_allclose(np.linalg.norm(data.atoms, axis=1), 1)
    np.testing.assert_allclose(data.X, data.codes @ data.atoms)
    assert ((data.codes != 0).sum(axis=1) == 3).all()
    magnitudes = np.abs(data.codes[data.codes != 0])
    assert magnitudes.min() >= 1
    assert magnitudes.max() <= 2
    assert 0.4 < (data.codes > 0).sum() / 600 < 0.6
    again = simulate_sparse(200, 10, 15, n_nonzero=3, amplitude=(1, 2), random_state=3)
    np.testing.assert_array_equal(data.X, again.X)


def test_unsigned_codes_and_noise():
    data = simulate_sparse(500, 10, 15, n_nonzero=2, signs=False, noise=0.1)
    assert data.codes.min() == 0
    assert abs((data.X - data.codes @ data.atoms).std() - 0.1) < 0.005


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_samples": 0}, "n_samples: expected at least 1"),
        ({"n_nonzero": 16}, r"n_nonzero: expected a number in \[1, n_components=15\]"),
        ({"amplitude": (2, 1)}, "amplitude: expected a range"),
        ({"noise": -1}, "noise: expected at least 0"),
    ],
)
def test_impossible_simulations_are_refused(changed, message):
    sizes = {"n_samples": 5, "n_features": 10, "n_components": 15, "n_nonzero": 3}
    with pytest.raises(ValueError, match=message):
        simulate_sparse(**(sizes | changed))


def test_the_data_folder_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set CALEPIN_DATA"):
        data_path("set12")
    monkeypatch.setenv("CALEPIN_DATA", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        data_path("set12")
    monkeypatch.setenv("CALEPIN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not contain set12"):
        data_path("set12")
    assert not has_data("set12")
    (tmp_path / "set12").mkdir()
    assert data_path("set12") == tmp_path / "set12"
    assert has_data("set12")

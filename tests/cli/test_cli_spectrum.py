"""``calepin spectrum``: the weights of a kernel, and how many measurements follow from them."""

import json

import numpy as np
import pytest

from calepin.cli import main
from calepin.datasets import read_image
from calepin.networks import triangular_kernel
from calepin.reconstruction import kernel_weights, measurements_needed, trigonometric_basis


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def said_as_json(capsys, *arguments):
    assert main(["spectrum", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_weights_are_those_of_the_theory_and_the_measurements_follow(capsys):
    said = said_as_json(capsys, "--width", "15", "--length", "100", "--smooth", "7", "--figure", "w.png")
    sigma = kernel_weights(triangular_kernel(15), 100)
    np.testing.assert_allclose(said["weights"], sigma)
    assert 7 in said["p"]
    signal = trigonometric_basis(100)[:7].sum(0)
    assert said["measurements"][said["p"].index(7)] == measurements_needed(signal, sigma, 0.1)
    assert read_image("w.png").pixels.ndim == 3


def test_less_smooth_signals_take_more_measurements_and_so_does_a_smaller_error(capsys):
    loose = said_as_json(capsys, "--kernel", "gaussian", "--width", "4", "--error", ".2")
    strict = said_as_json(capsys, "--kernel", "gaussian", "--width", "4", "--error", ".1")
    promised = [m for m in loose["measurements"] if m is not None]
    assert len(promised) >= 3
    assert promised == sorted(promised)
    for m, n in zip(strict["measurements"], loose["measurements"], strict=True):
        assert m is None or m >= n


def test_the_table_is_for_people(capsys):
    assert main(["spectrum", "--kernel", "box", "--width", "9", "--length", "50"]) == 0
    out = capsys.readouterr().out
    assert "box kernel, width 9, signals of 50 samples" in out
    assert "measurements" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "4"], "odd"),
        (["--width", "3.5"], "odd"),
        (["--width", "inf"], "odd"),
        (["--kernel", "gaussian", "--width", "-1"], "positive"),
        (["--width", "31", "--length", "20"], "kernel"),
        (["--smooth", "400"], "--smooth"),
        (["--error", "0"], "error"),
        (["--figure", "weights.npy"], "weights.npy"),
    ],
)
def test_wrong_requests_are_refused(capsys, arguments, message):
    assert main(["spectrum", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("calepin: error: ")
    assert message in err

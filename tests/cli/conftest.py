"""What several commands are tested with."""

import warnings

import numpy as np
import pytest

from calepin.cli import main
from calepin.datasets import load_digits
from calepin.estimators.generative import UnderdeterminedWarning


@pytest.fixture(scope="session")
def transferred(tmp_path_factory):
    """A folder with blurred digits, new.npy and test.npy, and model.safetensors that transfer learned."""
    folder = tmp_path_factory.mktemp("transfer")
    digits = load_digits()[0].reshape(-1, 8, 8)[:290]
    blurred = (digits + np.roll(digits, 1, 2)) / 2
    np.save(folder / "new.npy", blurred[:250])
    np.save(folder / "test.npy", blurred[250:])
    data, model = str(folder / "new.npy"), str(folder / "model.safetensors")
    with warnings.catch_warnings():
        # no sample makes every unit of the decoder active: transfer warns of what is not determined
        warnings.simplefilter("ignore", UnderdeterminedWarning)
        status = main(["transfer", "-g", "vae-digits", "--data", data, "--max-iter", "3", "-o", model, "-q"])
    assert status == 0
    return folder


@pytest.fixture
def run(capsys):
    """Return a function that runs a command and returns its status, stdout and stderr."""

    def run_command(*arguments):
        status = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command

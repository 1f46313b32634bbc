"""An installed calepin works: what `make release` runs in empty environments, with pytest alone beside it.

Each test is small; together they touch import, command line, every estimator, files and weights.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import calepin
from calepin.cli import main
from calepin.datasets import load_sample, simulate_convolutional, simulate_sparse
from calepin.networks import pretrained
from calepin.operators import GaussianSketch

pytestmark = [
    pytest.mark.smoke,
    # two passes over little data never converge, and do not determine every atom
    pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(scope="module")
def X():
    return simulate_sparse(300, 16, 24, n_nonzero=3, noise=0.02, random_state=0).X


def test_every_public_name_loads():
    assert all(getattr(calepin, name) is not None for name in calepin.__all__)
    assert calepin.__version__[0].isdigit()


def test_the_command_line_learns_codes_and_decodes(tmp_path, monkeypatch, X):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    assert main(["learn", "X.npy", "-o", "D.safetensors", "--n-components", "24", "--alpha", ".1"]) == 0
    assert main(["encode", "X.npy", "--dict", "D.safetensors", "--alpha", ".1", "-o", "Z.npz"]) == 0
    assert main(["decode", "Z.npz", "--dict", "D.safetensors", "-o", "R.npy"]) == 0
    assert np.mean((np.load("R.npy") - X) ** 2) < 0.3 * np.mean(X**2)


def test_the_environment_has_no_problem(capsys):
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_the_experiments_of_the_papers_are_found(capsys):
    assert main(["reproduce", "--list"]) == 0
    assert "classical-recovery" in capsys.readouterr().out


def test_the_console_script_says_the_version():
    script = Path(sys.executable).with_name("calepin")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"calepin {calepin.__version__}\n"


def test_an_image_is_denoised():
    clean = load_sample("camera").pixels[128:192, 192:256]
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)
    result = calepin.denoise(noisy, noise=calepin.GaussianNoise(0.1))
    assert np.mean((result.image - clean) ** 2) < 0.5 * np.mean((noisy - clean) ** 2)


def test_a_dictionary_is_learned_saved_and_loaded(tmp_path, X):
    learner = calepin.DictionaryLearner(24, alpha=0.1, random_state=0).fit(X)
    codes, info = calepin.sparse_encode(
        X, learner.components_, method="lasso", alpha=0.1, tol=1e-6, return_info=True
    )
    assert info.gap.max() <= 1e-6 * max(1.0, np.sum(X**2, axis=1).max())
    learner.save(tmp_path / "D.safetensors")
    loaded = calepin.DictionaryLearner.load(tmp_path / "D.safetensors")
    assert np.array_equal(loaded.components_, learner.components_)
    assert np.allclose(loaded.transform(X), codes, atol=1e-3)


def test_an_unfolded_dictionary_is_learned(X):
    learner = calepin.UnfoldedDictionaryLearner(24, alpha=0.1, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(learner.transform(X)).all()
    assert np.allclose(np.linalg.norm(learner.components_, axis=1), 1)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_filters_are_learned(likelihood):
    data = simulate_convolutional(
        6, (120,), n_components=2, kernel_size=(10,), likelihood=likelihood, random_state=0
    )
    learner = calepin.ConvolutionalDictionaryLearner(
        2, 10, likelihood=likelihood, max_iter=2, random_state=0
    ).fit(data.X)
    assert learner.components_.shape == (2, 1, 10)
    assert np.isfinite(learner.transform(data.X)).all()


def test_a_layer_over_a_shipped_generator_is_learned():
    generator = pretrained("vae-digits").generator()
    samples = np.random.default_rng(0).random((40, 64))
    learner = calepin.GenerativeDictionaryLearner(generator, max_iter=1, random_state=0).fit(samples)
    assert np.isfinite(learner.components_).all()


def test_an_untrained_network_reconstructs():
    row = np.linspace(0, np.pi, 16, dtype=np.float32)
    image = np.outer(np.sin(row), np.sin(row))
    operator = GaussianSketch((1, 16, 16), 128, generator=torch.Generator().manual_seed(0))
    y = operator(torch.from_numpy(image)[None, None]).numpy()
    found = calepin.UntrainedReconstructor(operator, max_iter=100, random_state=0).reconstruct(y)
    assert np.mean((found[0, 0] - image) ** 2) < 0.1 * np.mean(image**2)


def test_hdf5_is_read_or_its_extra_is_named(tmp_path):
    from calepin.reconstruction import read_kspace

    path = tmp_path / "scan.h5"
    try:
        import h5py
    except ModuleNotFoundError:
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'calepin\[mri\]'"):
            read_kspace(path)
        return
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones((2, 3, 8, 8), np.complex64)
    assert read_kspace(path)[1].shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["bsd-gaussian", "dcea-poisson-untied-peak4", "vae-mnist"])
def test_shipped_weights_load(name):
    assert sum(parameter.numel() for parameter in pretrained(name).parameters()) > 1000

"""What a newcomer tried and got wrong results from, in silence or by an error from inside a library."""

import warnings

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from torch import nn

import calepin
from calepin import GaussianNoise
from calepin.core.files import load_arrays, save_arrays
from calepin.datasets import read_image
from calepin.imaging import estimate_noise
from calepin.learning import DivergedError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 8))
NOISY = np.clip(np.linspace(0.2, 0.8, 48) + RNG.normal(0, 0.05, (48, 48)), 0, 1)


def test_half_precision_images_have_the_noise_level_of_their_values():
    half = NOISY.astype(np.float16)
    assert estimate_noise(half) == estimate_noise(half.astype(np.float32))
    assert np.isfinite(calepin.denoise(half).image).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-40, 1e40, 1e120])
def test_images_out_of_single_precision_are_refused(scale):
    with pytest.raises(ValueError, match="image: expected a largest magnitude from 1e-30 to 1e"):
        calepin.denoise(scale * NOISY, noise=GaussianNoise(0.05 * scale))


def test_a_level_out_of_single_precision_is_refused():
    with pytest.raises(ValueError, match="sigma: expected a finite number of at most 1e"):
        calepin.denoise(NOISY, noise=GaussianNoise(1e300))


def test_different_levels_of_channels_are_said():
    noisy = 0.5 + RNG.normal(0, [0.02, 0.02, 0.2], (64, 64, 3))
    with pytest.warns(UserWarning, match="channels have noise of different levels, 0.098., 0.098., 1 of the"):
        estimate_noise(noisy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_noise(0.5 + RNG.normal(0, 0.1, (64, 64, 3)))


def test_the_level_of_an_image_of_two_values_is_not_above_its_deviation():
    binary = RNG.integers(0, 2, (80, 80)).astype(float)
    with pytest.warns(UserWarning, match="that of clipped noise"):
        assert estimate_noise(binary) <= 1.05 * binary.std()


def test_a_callback_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="callback: expected a function"):
        calepin.denoise(NOISY, callback=3)  # pyright: ignore


def test_signed_bytes_of_a_tiff_keep_their_sign(tmp_path):
    samples = RNG.integers(-100, 100, (20, 20)).astype(np.int8)
    tifffile.imwrite(tmp_path / "signed.tif", samples)
    with pytest.raises(ValueError, match="its samples are int8 from -"):
        read_image(tmp_path / "signed.tif")
    pixels = read_image(tmp_path / "signed.tif", value_range=(-128, 127)).pixels
    np.testing.assert_allclose(pixels, (samples.astype(float) + 128) / 255, atol=1e-6)


@pytest.mark.parametrize("settings", [{"rule": "noodl"}, {"coder": "iht"}])
def test_hard_thresholds_work_with_nonnegative_atoms(settings):
    learner = calepin.DictionaryLearner(32, alpha=0.03, nonnegative_atoms=True, random_state=0, **settings)
    atoms = learner.fit(np.abs(X)).components_
    assert np.isfinite(atoms).all()
    assert atoms.min() >= 0


def test_sparse_tensors_and_nullable_frames_are_coded_as_their_values():
    atoms = np.eye(4, 8)
    expected = calepin.sparse_encode(X, atoms, alpha=0.1)
    sparse = torch.from_numpy(X).to_sparse()
    np.testing.assert_array_equal(calepin.sparse_encode(sparse, torch.from_numpy(atoms), alpha=0.1), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its CSR tensors are in beta
        rows = torch.from_numpy(X).to_sparse_csr()
    np.testing.assert_array_equal(calepin.sparse_encode(rows, atoms, alpha=0.1), expected)
    frame = pd.DataFrame(X).astype("Float64")
    np.testing.assert_array_equal(calepin.sparse_encode(frame, atoms, alpha=0.1), expected)


@pytest.mark.parametrize("how", ["NaN", "mask"])
def test_data_of_which_nothing_was_observed_are_refused(how):
    learner = calepin.DictionaryLearner(3, alpha=0.1, missing="allow")
    with pytest.raises(ValueError, match="X: expected at least one observed entry"):
        if how == "NaN":
            learner.fit(np.full_like(X, np.nan))
        else:
            learner.fit(X, mask=np.zeros(X.shape, bool))


@pytest.mark.parametrize("what", ["sample", "mask"])
def test_a_run_does_not_resume_with_one_other_sample_or_another_mask(tmp_path, what):
    settings = {"alpha": 0.1, "max_iter": 2, "tol": 0, "random_state": 0, "checkpoint": tmp_path / "run"}
    mask = RNG.random(X.shape) < 0.9
    calepin.DictionaryLearner(3, **settings).fit(X, mask=mask)
    other, known = X.copy(), mask.copy()
    if what == "sample":
        other[17] += 1e-9
    else:
        known[17] = ~known[17]
    again = calepin.DictionaryLearner(3, resume=True, **settings)
    with pytest.raises(ValueError, match="of another run: its data"):
        again.fit(other, mask=known)


def test_signals_out_of_single_precision_are_refused():
    signals = (1e-25 * RNG.standard_normal((3, 1, 60))).astype(np.float32)
    with pytest.raises(ValueError, match="X: expected a largest magnitude from 1e-18 to 1e"):
        calepin.ConvolutionalDictionaryLearner(2, 5, alpha=1e-26).fit(signals)


def test_a_file_whose_atoms_are_out_of_range_is_refused(tmp_path):
    path = tmp_path / "atoms.safetensors"
    calepin.UnfoldedDictionaryLearner(4, alpha=0.1, max_iter=1, random_state=0).fit(X).save(path)
    arrays, parameters = load_arrays(path, calepin.UnfoldedDictionaryLearner._kind, ["components"])
    arrays["components"][0, 0] = 1e300
    save_arrays(path, calepin.UnfoldedDictionaryLearner._kind, arrays, parameters)
    with pytest.raises(calepin.FileFormatError, match="components up to 1e.300 are too large"):
        calepin.UnfoldedDictionaryLearner.load(path)


class Complex(nn.Module):
    def forward(self, z):
        return z * (1 + 1j)


@pytest.mark.parametrize("generator", [lambda z: z + 1j, Complex()])
def test_complex_coefficients_of_any_generator_are_refused(generator):
    with pytest.raises(ValueError, match="generator: expected real floating-point coefficients"):
        calepin.GenerativeDictionaryLearner(generator, latent_dim=3).fit(X)


def test_a_constant_generator_is_named():
    with pytest.raises(ValueError, match="generator: expected coefficients that change with the latents"):
        calepin.GenerativeDictionaryLearner(lambda z: torch.ones(len(z), 5, dtype=z.dtype), latent_dim=4).fit(
            X
        )


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("Learner", [calepin.DictionaryLearner, calepin.UnfoldedDictionaryLearner])
def test_samples_out_of_single_precision_are_refused(Learner, scale):
    with pytest.raises(ValueError, match="X: expected a largest magnitude from 1e-18 to 1e"):
        Learner(4, alpha=0.1 * scale).fit((scale * X).astype(np.float32))


def test_codes_with_nan_are_not_decoded():
    learner = calepin.DictionaryLearner(8, alpha=0.1, max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="codes: expected finite real numbers"):
        learner.inverse_transform(np.full((2, 8), np.nan))


def test_no_path_is_named():
    learner = calepin.DictionaryLearner(8, alpha=0.1, max_iter=1, random_state=0).fit(X)
    with pytest.raises(TypeError, match="path: expected a path, got None"):
        learner.save(None)  # pyright: ignore
    with pytest.raises(TypeError, match="path: expected a path, got None"):
        calepin.DictionaryLearner.load(None)  # pyright: ignore


@pytest.mark.parametrize(("dtype", "noted"), [(np.float64, True), (np.float16, True), (np.float32, False)])
def test_another_depth_of_floats_is_said(tmp_path, dtype, noted):
    tifffile.imwrite(tmp_path / "floats.tif", RNG.random((20, 20)).astype(dtype))
    notes = read_image(tmp_path / "floats.tif").notes
    assert any("are written with 32" in note for note in notes) == noted


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_filters_that_run_away_are_named():
    signals = RNG.standard_normal((4, 1, 60))
    learner = calepin.ConvolutionalDictionaryLearner(
        2, 5, alpha=0.1, learning_rate=1e300, max_iter=2, random_state=0
    )
    with pytest.raises(DivergedError, match="became NaN or infinite"):
        learner.fit(signals)
